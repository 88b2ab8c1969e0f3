//! The admin listener's pages about where a pool's endpoints come from, and changes of them by hand. Who may
//! make these was decided before; what becomes of them is decided in `control::discovery`.

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::endpoints::find_pool;
use super::pages::{Page, Refusal, json_page};
use super::router::{Answer, Handler::Blocking, Row};
use super::{AdminState, Asked};
use crate::control::discovery::{ChangeError, SourceReading, Wish, patch};
use crate::discover::Patch;
use crate::model::{Address, json};

/// The rows about these.
pub(super) const ROWS: &[Row] = &[
    Row::get("/v1/pools/{pool}/sources", "where its endpoints come from", Blocking(sources)),
    Row::get("/v1/pools/{pool}/changes", "what was changed of its endpoints by hand", Blocking(changes)),
    Row::write(Method::POST, "/v1/pools/{pool}/endpoints", "add an endpoint, or put one back", Blocking(add)),
    Row::write(
        Method::PATCH,
        "/v1/pools/{pool}/endpoints/{address}",
        "change its weight, priority or zone",
        Blocking(adjust),
    ),
    Row::write(Method::DELETE, "/v1/pools/{pool}/endpoints/{address}", "take it out", Blocking(remove)),
];

fn sources(asked: &Asked, state: &AdminState) -> Answer {
    let pool = asked.part("pool");
    find_pool(pool, state)?;
    let sources = state.running.discovery().sources(pool).unwrap_or_default();
    let sources: Vec<_> = sources.iter().map(SourceReading::to_json).collect();
    Ok(json_page(StatusCode::OK, &json!({ "pool": pool, "sources": sources })))
}

fn changes(asked: &Asked, state: &AdminState) -> Answer {
    let pool = asked.part("pool");
    find_pool(pool, state)?;
    Ok(json_page(StatusCode::OK, &state.running.discovery().changes(pool).unwrap_or_default()))
}

fn add(asked: &Asked, state: &AdminState) -> Answer {
    let body = asked.json()?;
    let address = json::text(&body, "address").ok_or_else(|| bad("`address` is missing"))?;
    let patch = read(&body, &["address", "weight", "priority", "zone"])?;
    change(asked, &parse(address)?, Wish::Add(patch), state)
}

fn adjust(asked: &Asked, state: &AdminState) -> Answer {
    let patch = read(&asked.json()?, &["weight", "priority", "zone"])?;
    change(asked, &parse(asked.part("address"))?, Wish::Adjust(patch), state)
}

fn remove(asked: &Asked, state: &AdminState) -> Answer {
    change(asked, &parse(asked.part("address"))?, Wish::Remove, state)
}

/// Makes the change and has it count at once; the answer says what the pool has then.
fn change(asked: &Asked, address: &Address, wish: Wish, state: &AdminState) -> Answer {
    let pool = asked.part("pool");
    find_pool(pool, state)?;
    let running = &state.running;
    running.discovery().change(pool, address, wish).map_err(|error| refusal(pool, address, &error))?;
    running.follow().map_err(|error| {
        let hint = "the change counts all the same, once this is no longer so";
        Refusal::new(StatusCode::CONFLICT, error.to_string(), hint)
    })?;
    Ok(done(pool, address, state))
}

fn done(pool: &str, address: &Address, state: &AdminState) -> Page {
    let (plan, _) = state.running.plan();
    let name = plan.pools.iter().map(|plan| &plan.name).find(|name| name.as_str() == pool);
    let located = name.and_then(|name| state.running.located(name)).unwrap_or_default();
    let own = located.iter().find(|located| located.address == *address);
    let shown = own.map(|own| {
        let zone = own.plan.zone.as_ref().map(|zone| zone.as_str());
        json!({ "weight": own.plan.weight, "priority": own.plan.level, "zone": zone })
    });
    json_page(
        StatusCode::OK,
        &json!({
            "pool": pool,
            "address": address.to_string(),
            "in_use": shown,
            "endpoints": located.len(),
        }),
    )
}

fn refusal(pool: &str, address: &Address, error: &ChangeError) -> Refusal {
    use crate::discover::changes::Refused;
    let (status, hint) = match error {
        ChangeError::NoPool => (StatusCode::NOT_FOUND, "/v1/endpoints lists the pools"),
        ChangeError::Refused(Refused::Absent) => {
            (StatusCode::NOT_FOUND, "`forebay endpoint add` or POST adds one")
        }
        ChangeError::Refused(Refused::Present) => (StatusCode::CONFLICT, "PATCH changes it"),
        ChangeError::Refused(Refused::TooMany) => (StatusCode::CONFLICT, "write a list to a file instead"),
        ChangeError::Nameless => (StatusCode::BAD_REQUEST, "the pool needs `tls.server_name` for that"),
        ChangeError::Unkept(_) => (StatusCode::INTERNAL_SERVER_ERROR, "nothing has changed"),
    };
    let error = match error {
        ChangeError::Unkept(source) => format!("{error}: {source}"),
        _ => format!("pool {pool:?}, {address}: {error}"),
    };
    Refusal::new(status, error, hint)
}

/// What a body says about an endpoint, which has none but these members.
fn read(body: &Value, known: &[&str]) -> Result<Patch, Refusal> {
    let members = body.as_object().ok_or_else(|| bad("the body is no object"))?;
    if let Some(name) = members.keys().find(|name| !known.contains(&name.as_str())) {
        return Err(bad(format!("the member {name:?} is not known")));
    }
    patch(body).map_err(bad)
}

/// An address that can be connected to.
fn parse(text: &str) -> Result<Address, Refusal> {
    match text.parse() {
        Ok(Address::Inet(address)) if address.port() == 0 => Err(bad("port 0 is no port to connect to")),
        Ok(Address::Unix(path)) if path.is_relative() => Err(bad("the path of a socket begins with `/`")),
        Ok(address) => Ok(address),
        Err(error) => Err(bad(error.to_string())),
    }
}

fn bad(error: impl Into<String>) -> Refusal {
    let hint = "as in {\"address\": \"127.0.0.1:9001\", \"weight\": 2, \"priority\": 0, \"zone\": \"eu-1a\"}";
    Refusal::new(StatusCode::BAD_REQUEST, error.into(), hint)
}
