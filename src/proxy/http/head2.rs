//! Heads to and from the types of the HTTP/2 library (RFC 9113 §8).

use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version};

use crate::model::field::Known;
use crate::model::{Fields, RequestHead, ResponseHead};
use crate::wire::Malformed;
use crate::wire::parse::{is_authority, split_port};

/// Takes a request of an HTTP/2 client, of at most `max_fields`, into `head`.
///
/// # Errors
/// When it names no authority, a malformed one or two that differ, or has too many fields.
pub(super) fn request_from(
    request: &Request<()>,
    head: &mut RequestHead,
    max_fields: usize,
) -> Result<(), Malformed> {
    head.clear();
    head.method = request.method().clone();
    head.version = Version::HTTP_2;
    let uri = request.uri();
    append_all(&mut head.fields, request.headers());
    join_cookies(&mut head.fields);
    match uri.path_and_query() {
        Some(target) => head.set_target(target.as_str().as_bytes()),
        None => head.set_target(uri.authority().map_or(b"/", |a| a.as_str().as_bytes())),
    }
    if let Some(authority) = uri.authority() {
        head.set_authority(authority.as_str().as_bytes());
    }
    if head.fields.len() > max_fields {
        return Err(Malformed::TooManyFields);
    }
    if head.fields.get_all(Known::Host).nth(1).is_some() {
        return Err(Malformed::HostRepeated);
    }
    if let (Some(authority), Some(host)) = (head.authority(), head.fields.get(Known::Host))
        && !split_port(authority).0.eq_ignore_ascii_case(split_port(host).0)
    {
        return Err(Malformed::HostInvalid);
    }
    head.take_host();
    match head.authority() {
        None => Err(Malformed::HostMissing),
        Some(authority) if !is_authority(authority) => Err(Malformed::HostInvalid),
        Some(_) => Ok(()),
    }
}

/// The request to send to an HTTP/2 endpoint; `None` when it cannot be expressed there.
#[must_use]
pub(super) fn request_to(head: &RequestHead, scheme: Scheme) -> Option<Request<()>> {
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(scheme);
    uri.authority = Some(Authority::try_from(head.authority()?).ok()?);
    uri.path_and_query = Some(PathAndQuery::try_from(head.target()).ok()?);
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = Uri::from_parts(uri).ok()?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = map_of(&head.fields);
    Some(request)
}

/// Takes a response of an HTTP/2 endpoint into `head`.
pub(super) fn response_from<T>(response: &Response<T>, head: &mut ResponseHead) {
    head.clear();
    head.status = response.status();
    head.version = Version::HTTP_2;
    append_all(&mut head.fields, response.headers());
}

/// The response to send to an HTTP/2 client.
#[must_use]
pub(super) fn response_to(head: &ResponseHead) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = head.status;
    *response.version_mut() = Version::HTTP_2;
    *response.headers_mut() = map_of(&head.fields);
    response
}

/// Trailer fields as received over HTTP/2.
#[must_use]
pub(super) fn trailers_from(map: &HeaderMap) -> Fields {
    let mut fields = Fields::default();
    append_all(&mut fields, map);
    fields.retain(|known, _, _| !known.is_hop_by_hop());
    fields
}

/// Trailer fields to be sent over HTTP/2.
#[must_use]
pub(super) fn trailers_to(fields: &Fields) -> HeaderMap {
    map_of(fields)
}

fn append_all(fields: &mut Fields, map: &HeaderMap) {
    for (name, value) in map {
        fields.append(name.as_str().as_bytes(), value.as_bytes());
    }
}

/// Several `cookie` fields are one for whoever does not speak HTTP/2 (RFC 9113 §8.2.3).
fn join_cookies(fields: &mut Fields) {
    if !fields.has(Known::Cookie) || fields.get_all(Known::Cookie).nth(1).is_none() {
        return;
    }
    let joined = fields.get_all(Known::Cookie).collect::<Vec<_>>().join(&b"; "[..]);
    fields.set_known(Known::Cookie, &joined);
}

/// The fields as the library wants them. Names and values were checked when they were read; one
/// that the library refuses all the same is left out rather than sent in another form.
fn map_of(fields: &Fields) -> HeaderMap {
    let mut map = HeaderMap::with_capacity(fields.len());
    for (_, name, value) in fields.iter() {
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name), HeaderValue::from_bytes(value)) {
            map.append(name, value);
        }
    }
    map
}
