//! A diff as JSON, for programs, and as text, for people.

use std::fmt;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::{
    Changes, Diff, EndpointChange, KeyChange, ListenerChange, PoolChange, RouteChange, Side, Warning,
};
use crate::model::{Address, Name};

impl Diff {
    /// As a JSON object whose fields stay as they are: `process`, `listeners`, `routes`, `reordered`,
    /// `pools`, `files`, `warnings`, `restart`, each always there.
    #[must_use]
    pub fn to_json(&self) -> Json {
        json!({
            "process": keys(&self.process),
            "listeners": changes(&self.listeners, listener),
            "routes": changes(&self.routes, route),
            "reordered": names(&self.reordered),
            "pools": changes(&self.pools, pool),
            "files": files(&self.files),
            "warnings": self.warnings.iter().map(warning).collect::<Vec<_>>(),
            "restart": self.needs_restart().collect::<Vec<_>>(),
        })
    }

    /// The text with terminal colours: green for what comes, red for what goes.
    #[must_use]
    pub fn coloured(&self) -> String {
        Shown { diff: self, paint: &COLOURS }.to_string()
    }
}

fn changes<T>(changes: &Changes<T>, changed: fn(&T) -> Json) -> Json {
    json!({
        "added": names(&changes.added),
        "removed": names(&changes.removed),
        "changed": changes.changed.iter().map(changed).collect::<Vec<_>>(),
    })
}

fn listener(change: &ListenerChange) -> Json {
    let addresses = |of: &[Address]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
    json!({
        "name": change.name.as_str(),
        "keys": keys(&change.keys),
        "binds": { "added": addresses(&change.binds_added), "removed": addresses(&change.binds_removed) },
        "tls": change.tls,
        "files": files(&change.files),
    })
}

fn route(change: &RouteChange) -> Json {
    json!({ "name": change.name.as_str(), "keys": keys(&change.keys), "files": files(&change.files) })
}

fn pool(change: &PoolChange) -> Json {
    let endpoint =
        |change: &EndpointChange| json!({ "endpoint": change.endpoint, "keys": keys(&change.keys) });
    json!({
        "name": change.name.as_str(),
        "keys": keys(&change.keys),
        "endpoints": {
            "added": change.endpoints_added,
            "removed": change.endpoints_removed,
            "changed": change.endpoints_changed.iter().map(endpoint).collect::<Vec<_>>(),
        },
        "moved_keys": change.moved_keys,
        "lost_sessions": change.lost_sessions,
        "files": files(&change.files),
    })
}

fn keys(changes: &[KeyChange]) -> Vec<Json> {
    let side = |side: &Side| match side {
        Side::Written(value) => json!({ "value": value, "default": false }),
        Side::Default(value) => json!({ "value": value, "default": true }),
    };
    let one = |change: &KeyChange| {
        json!({
            "key": change.key,
            "before": side(&change.before),
            "after": side(&change.after),
            "restart": change.restart,
        })
    };
    changes.iter().map(one).collect()
}

fn warning(warning: &Warning) -> Json {
    json!({ "place": warning.place, "words": warning.words })
}

fn names(names: &[Name]) -> Vec<&str> {
    names.iter().map(Name::as_str).collect()
}

fn files(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|path| path.display().to_string()).collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown { diff: self, paint: &PLAIN }.fmt(f)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Written(value) => write!(f, "{value}"),
            Self::Default(Some(value)) => write!(f, "{value} (default)"),
            Self::Default(None) => f.write_str("unset"),
        }
    }
}

struct Shown<'a> {
    diff: &'a Diff,
    paint: &'a Paint,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { diff, paint } = self;
        if diff.is_empty() && diff.warnings.is_empty() {
            return writeln!(f, "nothing changes");
        }
        for change in &diff.process {
            let late = if change.restart { "  (after a restart)" } else { "" };
            let Paint { changed, end, .. } = paint;
            writeln!(f, "{changed}~ {}: {} -> {}{late}{end}", change.key, change.before, change.after)?;
        }
        self.coming_and_going(f, "listener", &diff.listeners)?;
        diff.listeners.changed.iter().try_for_each(|change| self.listener(f, change))?;
        self.coming_and_going(f, "route", &diff.routes)?;
        for change in &diff.routes.changed {
            self.changed(f, "route", &change.name)?;
            self.keys(f, &format!("route.{}.", change.name), &change.keys)?;
            self.files(f, &change.files)?;
        }
        for name in &diff.reordered {
            self.line(f, paint.changed, &format!("~ route {name}: comes before others that it came after"))?;
        }
        self.coming_and_going(f, "pool", &diff.pools)?;
        diff.pools.changed.iter().try_for_each(|change| self.pool(f, change))?;
        for file in &diff.files {
            self.line(f, paint.changed, &format!("~ file {}", file.display()))?;
        }
        for Warning { place, words } in &diff.warnings {
            self.line(f, paint.warning, &format!("! {place}: {words}"))?;
        }
        Ok(())
    }
}

impl Shown<'_> {
    fn line(&self, f: &mut fmt::Formatter<'_>, colour: &str, text: &str) -> fmt::Result {
        writeln!(f, "{colour}{text}{}", self.paint.end)
    }

    fn coming_and_going<T>(
        &self,
        f: &mut fmt::Formatter<'_>,
        noun: &str,
        changes: &Changes<T>,
    ) -> fmt::Result {
        for name in &changes.added {
            self.line(f, self.paint.added, &format!("+ {noun} {name}"))?;
        }
        for name in &changes.removed {
            self.line(f, self.paint.removed, &format!("- {noun} {name}"))?;
        }
        Ok(())
    }

    fn changed(&self, f: &mut fmt::Formatter<'_>, noun: &str, name: &Name) -> fmt::Result {
        self.line(f, self.paint.changed, &format!("~ {noun} {name}"))
    }

    fn keys(&self, f: &mut fmt::Formatter<'_>, prefix: &str, changes: &[KeyChange]) -> fmt::Result {
        for change in changes {
            let key = change.key.strip_prefix(prefix).unwrap_or(&change.key);
            writeln!(f, "    {key}: {} -> {}", change.before, change.after)?;
        }
        Ok(())
    }

    fn files(&self, f: &mut fmt::Formatter<'_>, files: &[PathBuf]) -> fmt::Result {
        files.iter().try_for_each(|path| writeln!(f, "    {} has changed", path.display()))
    }

    fn listener(&self, f: &mut fmt::Formatter<'_>, change: &ListenerChange) -> fmt::Result {
        self.changed(f, "listener", &change.name)?;
        self.keys(f, &format!("listener.{}.", change.name), &change.keys)?;
        self.files(f, &change.files)?;
        match change.tls {
            true => {
                writeln!(f, "    new TLS handshakes are served by the new settings; no connection is closed")
            }
            false => Ok(()),
        }
    }

    fn pool(&self, f: &mut fmt::Formatter<'_>, change: &PoolChange) -> fmt::Result {
        self.changed(f, "pool", &change.name)?;
        for endpoint in &change.endpoints_added {
            self.line(f, self.paint.added, &format!("    + {endpoint}"))?;
        }
        for endpoint in &change.endpoints_removed {
            self.line(f, self.paint.removed, &format!("    - {endpoint}"))?;
        }
        for EndpointChange { endpoint, keys } in &change.endpoints_changed {
            let key = |change: &KeyChange| change.key.rsplit('.').next().unwrap_or_default().to_owned();
            let keys: Vec<_> =
                keys.iter().map(|one| format!("{} {} -> {}", key(one), one.before, one.after)).collect();
            self.line(f, self.paint.changed, &format!("    ~ {endpoint}: {}", keys.join(", ")))?;
        }
        self.keys(f, &format!("pool.{}.", change.name), &change.keys)?;
        self.files(f, &change.files)?;
        let shares =
            [(change.moved_keys, "hash keys move"), (change.lost_sessions, "sessions lose their endpoint")];
        for (share, words) in shares {
            if let Some(share) = share.filter(|share| *share > 0.0) {
                writeln!(f, "    {:.1} % of {words}", share * 100.0)?;
            }
        }
        Ok(())
    }
}

/// Escape sequences around lines.
struct Paint {
    added: &'static str,
    removed: &'static str,
    changed: &'static str,
    warning: &'static str,
    end: &'static str,
}

const PLAIN: Paint = Paint { added: "", removed: "", changed: "", warning: "", end: "" };

/// ECMA-48 select graphic rendition.
const COLOURS: Paint = Paint {
    added: "\x1b[32m",
    removed: "\x1b[31m",
    changed: "\x1b[36m",
    warning: "\x1b[1;33m",
    end: "\x1b[0m",
};
