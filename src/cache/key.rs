//! What makes two requests ask for the same thing: scheme, host and target; and, of the responses to
//! it that depend on more, the request fields that `Vary` names (RFC 9111 §4.1).

use twox_hash::XxHash3_64;

use crate::model::{Fields, RequestHead};

/// What is asked for, whatever the method.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    hash: u64,
    bytes: Box<[u8]>,
}

impl Key {
    /// What `request` asks for in the form in which it goes to an endpoint. `scheme` and `host` are
    /// those that the client used: endpoints are told of them, and may build links of them.
    #[must_use]
    pub fn of(scheme: &str, host: &str, request: &RequestHead) -> Self {
        let authority = request.authority().unwrap_or_default();
        let parts = [scheme.as_bytes(), host.as_bytes(), authority, request.target()];
        let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.len() + 1).sum());
        for part in parts {
            bytes.extend_from_slice(part);
            // Stands in none of the parts.
            bytes.push(b'\n');
        }
        // The case of the authority says nothing; that of the target does.
        let (start, end) = (scheme.len() + 1, scheme.len() + host.len() + authority.len() + 2);
        bytes.get_mut(start..end).unwrap_or_default().make_ascii_lowercase();
        Self { hash: XxHash3_64::oneshot(&bytes), bytes: bytes.into_boxed_slice() }
    }

    /// A number that is the same for the same key, and seldom for others.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.bytes.len()
    }
}

/// The fields of a request that a response depends on: names in lower case, and their values in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variant(Box<[Pair]>);

/// A name in lower case, and its values as one list.
type Pair = (Box<[u8]>, Box<[u8]>);

impl Variant {
    /// What stands in `request` under each of `names`.
    #[must_use]
    pub fn of<'a>(names: impl IntoIterator<Item = &'a [u8]>, request: &Fields) -> Self {
        let pair = |name: &[u8]| (name.to_ascii_lowercase().into_boxed_slice(), values(request, name));
        let mut pairs: Vec<_> = names.into_iter().map(pair).collect();
        pairs.sort_unstable();
        pairs.dedup();
        Self(pairs.into_boxed_slice())
    }

    /// Whether a request with these fields gets the same response.
    #[must_use]
    pub fn matches(&self, request: &Fields) -> bool {
        self.0.iter().all(|(name, value)| values(request, name) == *value)
    }

    /// Bytes of memory that it takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(|(name, value)| name.len() + value.len() + size_of::<Pair>()).sum()
    }

    /// A number for `key` in this variant.
    #[must_use]
    pub fn hash(&self, key: &Key) -> u64 {
        self.0.iter().fold(key.hash, |hash, (name, value)| {
            let of_name = XxHash3_64::oneshot_with_seed(hash, name);
            XxHash3_64::oneshot_with_seed(of_name, value)
        })
    }
}

/// Every value of a field, as one list (RFC 9110 §5.3).
fn values(fields: &Fields, name: &[u8]) -> Box<[u8]> {
    let mut all = Vec::new();
    for value in fields.get_named(name) {
        // Tells no field from an empty one, and keeps lists apart.
        all.push(b',');
        all.extend_from_slice(value.trim_ascii());
    }
    all.into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(authority: &str, target: &str) -> RequestHead {
        let mut head = RequestHead::default();
        head.set_authority(authority.as_bytes());
        head.set_target(target.as_bytes());
        head
    }

    #[test]
    fn a_key_is_scheme_host_and_target() {
        let key = Key::of("http", "a", &request("A:80", "/X?y"));
        assert_eq!(key, Key::of("http", "A", &request("a:80", "/X?y")));
        let others = [
            Key::of("https", "a", &request("a:80", "/X?y")),
            Key::of("http", "b", &request("a:80", "/X?y")),
            Key::of("http", "a", &request("a", "/X?y")),
            Key::of("http", "a", &request("a:80", "/x?y")),
            Key::of("http", "a", &request("a:80", "/X")),
        ];
        assert!(others.iter().all(|other| *other != key && other.hash() != key.hash()));
    }

    #[test]
    fn a_variant_matches_requests_with_the_same_fields() {
        let fields = |list: &[(&str, &str)]| {
            let mut fields = Fields::default();
            list.iter().for_each(|(name, value)| fields.append(name.as_bytes(), value.as_bytes()));
            fields
        };
        let asked = fields(&[("Accept", "a"), ("ACCEPT", "b"), ("x", "y")]);
        let variant = Variant::of([&b"Accept"[..], b"accept-language"], &asked);
        assert!(variant.matches(&asked) && variant.matches(&fields(&[("accept", " a"), ("accept", "b")])));
        for other in
            [&[][..], &[("accept", "a")], &[("accept", "a"), ("accept", "b"), ("accept-language", "")]]
        {
            assert!(!variant.matches(&fields(other)), "{other:?}");
        }
        assert!(Variant::default().matches(&asked));
        let key = Key::of("http", "a", &request("a", "/"));
        assert_ne!(variant.hash(&key), Variant::default().hash(&key));
    }
}
