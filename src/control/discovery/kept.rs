//! What was changed by hand, in a file that outlives the process: `endpoints.json` in the state directory.
//! It is replaced as a whole, or stays as it was.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::control::whole_file;
use crate::discover::changes::Change;
use crate::discover::service::{LAST_LEVEL, MOST};
use crate::discover::{Changes, Patch, Terms};
use crate::model::{Address, Name, json};

/// What was kept; nothing when there is no such file.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn read(folder: &Path) -> Result<BTreeMap<Name, Changes>, String> {
    let text = match fs::read_to_string(folder.join(FILE)) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error.to_string()),
    };
    let whole: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
    let pools = whole.get("pools").and_then(Value::as_object).ok_or("it has no `pools`")?;
    let mut kept = BTreeMap::new();
    for (pool, list) in pools {
        let name = Name::new(pool).map_err(|error| error.to_string())?;
        let mut changes = Changes::default();
        for one in list.as_array().into_iter().flatten() {
            let (address, change) = change(one).ok_or_else(|| format!("pool {pool} has {one}"))?;
            changes.restore(address, change);
        }
        kept.insert(name, changes);
    }
    Ok(kept)
}

/// Replaces what was kept.
///
/// # Errors
/// As those of [`whole_file::replace`].
pub(super) fn write<'a>(
    folder: &Path,
    pools: impl Iterator<Item = (&'a Name, &'a Changes)>,
) -> io::Result<()> {
    let mut all = Map::new();
    for (pool, changes) in pools {
        let list: Vec<_> = changes.iter().map(|(address, change)| shown(address, change)).collect();
        all.insert(pool.to_string(), list.into());
    }
    let text = format!("{:#}\n", json!({ "pools": all }));
    whole_file::replace(folder, FILE, &text)
}

/// A change as it is kept, and as the admin API shows it.
pub(super) fn shown(address: &Address, change: &Change) -> Value {
    let address = address.to_string();
    match change {
        Change::Added(Terms { weight, level, zone }) => {
            let zone = zone.as_ref().map(Name::as_str);
            json!({ "address": address, "change": "added", "weight": weight, "priority": level, "zone": zone })
        }
        Change::Adjusted(Patch { weight, level, zone }) => {
            let mut shown = json!({ "address": address, "change": "adjusted" });
            let parts = [
                ("weight", weight.map(Value::from)),
                ("priority", level.map(Value::from)),
                ("zone", zone.as_ref().map(|zone| zone.as_ref().map(Name::as_str).into())),
            ];
            if let Value::Object(map) = &mut shown {
                map.extend(parts.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
            }
            shown
        }
        Change::Removed => json!({ "address": address, "change": "removed" }),
    }
}

fn change(kept: &Value) -> Option<(Address, Change)> {
    let address = json::text(kept, "address")?.parse().ok()?;
    let patch = patch(kept).ok()?;
    let change = match json::text(kept, "change")? {
        "added" => {
            let mut terms = Terms::default();
            patch.apply(&mut terms);
            Change::Added(terms)
        }
        "adjusted" => Change::Adjusted(patch),
        "removed" => Change::Removed,
        _ => return None,
    };
    Some((address, change))
}

/// What is to be otherwise about an endpoint, by `weight`, `priority` and `zone` of this object. Others
/// are not looked at.
///
/// # Errors
/// What is wrong with one of them, in words.
pub fn patch(given: &Value) -> Result<Patch, String> {
    let within = |name: &str, least: u32, most: u32| match given.get(name) {
        None => Ok(None),
        Some(value) => {
            let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
            let fitting = number.filter(|number| (least..=most).contains(number));
            fitting.map(Some).ok_or_else(|| format!("`{name}` is a whole number from {least} to {most}"))
        }
    };
    let zone = match given.get("zone") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(zone) => {
            let name = zone.as_str().ok_or("`zone` is a name")?;
            Some(Some(Name::new(name).map_err(|error| format!("`zone`: {error}"))?))
        }
    };
    Ok(Patch { weight: within("weight", 1, MOST)?, level: within("priority", 0, LAST_LEVEL)?, zone })
}

const FILE: &str = "endpoints.json";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()), Ok(BTreeMap::new()));
        let at = |port: u16| format!("127.0.0.1:{port}").parse::<Address>().unwrap();
        let mut changes = Changes::default();
        let zone = Some(Some(Name::new("eu").unwrap()));
        changes.add(at(1), Patch { weight: Some(5), level: Some(2), zone }, false).unwrap();
        changes.adjust(&at(2), Patch { weight: Some(7), level: None, zone: Some(None) }, true).unwrap();
        changes.remove(&at(3), true).unwrap();
        let pools = BTreeMap::from([(Name::new("app").unwrap(), changes)]);
        write(folder.path(), pools.iter()).unwrap();
        assert_eq!(read(folder.path()), Ok(pools));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_not_taken_in_part() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "[]", r#"{"pools": {"app": [{"address": "a", "change": "added"}]}}"#] {
            fs::write(folder.path().join(FILE), text).unwrap();
            assert!(read(folder.path()).is_err(), "{text}");
        }
    }
}
