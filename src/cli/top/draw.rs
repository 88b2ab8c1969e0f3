//! How `top` looks: a heading, warnings, a table that scrolls, and a line of keys, from 80 columns and 24
//! lines up. Colour only adds to what is written.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Cells, Table, TableState};
use serde_json::Value;

use super::super::table::{age, brief, of_limit, table};
use super::view::{Row, View};
use crate::model::json;

/// Draws all of it.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, colours: bool) {
    let warnings = warnings(view);
    let height = u16::try_from(warnings.len()).unwrap_or(u16::MAX);
    let parts = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(height),
        Constraint::Min(3),
        Constraint::Length(2),
    ]);
    let [head, warned, body, foot] = parts.areas(frame.area());
    let bold = Style::default().add_modifier(Modifier::BOLD);
    let [first, second] = heading(view);
    frame.render_widget(Paragraph::new(vec![Line::styled(first, bold), Line::raw(second)]), head);
    let warned_style = coloured(Style::default(), Color::Yellow, colours);
    let lines: Vec<_> = warnings.into_iter().map(|text| Line::styled(text, warned_style)).collect();
    frame.render_widget(Paragraph::new(lines), warned);

    let rows = view.rows();
    let cells = rows.iter().map(|row| Cells::new(columns(row).map(Cell::from)).style(style(row, colours)));
    let widths = WIDTHS.map(Constraint::Length).into_iter().chain([Constraint::Fill(1)]);
    let table = Table::new(cells, widths)
        .header(Cells::new(HEAD).style(bold))
        .row_highlight_style(Style::default().add_modifier(Modifier::REVERSED));
    let mut state = TableState::default().with_selected(Some(view.selected()));
    frame.render_stateful_widget(table, body, &mut state);

    let keys = format!("q quit  up/down select  left/right sort: {}  d drain  u undrain", view.ordered_by());
    let said = view.line();
    frame.render_widget(Paragraph::new(vec![Line::styled(said, bold), Line::raw(keys)]), foot);
}

/// The same as plain lines.
pub(super) fn lines(view: &View) -> String {
    let mut text = heading(view).join("\n");
    for warning in warnings(view) {
        text.push('\n');
        text.push_str(&warning);
    }
    let rows: Vec<_> =
        std::iter::once(HEAD.map(str::to_owned)).chain(view.rows().iter().map(columns)).collect();
    format!("{text}\n{}\n", table(&rows))
}

fn heading(view: &View) -> [String; 2] {
    let status = view.status();
    let text = |name: &str| json::text(status, name).unwrap_or("-");
    let count = |name: &str| json::number::<u64>(status, name);
    let (requests, errors) = view.rates();
    let first = format!(
        "{} {}  {}  up {}  generation {}",
        text("name"),
        text("version"),
        text("phase"),
        age(count("up_seconds").unwrap_or_default()),
        count("generation").unwrap_or_default(),
    );
    let connections = of_limit(count("connections").unwrap_or_default(), count("max_connections"));
    let listeners = json::list(status, "listeners").iter().map(|listener| {
        let connections = json::number::<u64>(listener, "connections").unwrap_or_default();
        format!("  {} {connections}", json::text(listener, "listener").unwrap_or_default())
    });
    let listeners: String = listeners.collect();
    let passed_on = view.passed_on().map(|rate| format!("  {rate:.1} passed on/s")).unwrap_or_default();
    let rates = format!("{requests:.1} requests/s  {errors:.1} errors/s{passed_on}");
    [first, format!("{rates}  connections {connections}:{listeners}")]
}

/// The first warnings, and how many more there are.
fn warnings(view: &View) -> Vec<String> {
    let all = json::list(view.status(), "warnings");
    let mut shown: Vec<_> =
        all.iter().filter_map(Value::as_str).take(MOST_WARNINGS).map(|text| format!("! {text}")).collect();
    if all.len() > MOST_WARNINGS {
        shown.push(format!("! and {} more: `forebay status` lists them", all.len() - MOST_WARNINGS));
    }
    shown
}

fn columns(row: &Row) -> [String; 8] {
    let name = match &row.endpoint {
        Some(endpoint) => format!("  {endpoint}"),
        None => row.pool.clone(),
    };
    [
        name,
        row.state.clone(),
        format!("{:.1}", row.rates.0),
        format!("{:.1}", row.rates.1),
        brief(row.percentiles.0),
        brief(row.percentiles.1),
        row.in_flight.to_string(),
        row.reason.clone(),
    ]
}

fn style(row: &Row, colours: bool) -> Style {
    let plain = Style::default();
    match (&row.endpoint, row.state.as_str()) {
        (None, _) if row.reason.is_empty() => plain.add_modifier(Modifier::BOLD),
        (None, _) => coloured(plain.add_modifier(Modifier::BOLD), Color::Yellow, colours),
        (_, "up") => plain,
        (_, "down" | "ejected") => coloured(plain, Color::Red, colours),
        (_, "disabled" | "draining") => coloured(plain, Color::Blue, colours),
        _ => coloured(plain, Color::Yellow, colours),
    }
}

fn coloured(style: Style, colour: Color, colours: bool) -> Style {
    if colours { style.fg(colour) } else { style }
}

const HEAD: [&str; 8] = ["POOL / ENDPOINT", "STATE", "REQ/S", "ERR/S", "P50", "P99", "FLYING", "REASON"];
/// Of all columns but the last, which takes what is left; the selected line shows it in full below.
const WIDTHS: [u16; 7] = [23, 9, 8, 6, 6, 6, 6];
const MOST_WARNINGS: usize = 3;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::super::sample::Sample;
    use super::super::view::Asking;
    use super::*;
    use crate::ambient;

    /// A view of two endpoints over a second in which the second one answered 50 requests, 5 of them
    /// badly.
    fn view() -> View {
        let status = json!({
            "name": "forebay", "version": "0.1.0", "phase": "ready", "up_seconds": 65, "generation": 2,
            "connections": 4, "max_connections": 10, "warnings": ["a", "b", "c", "d", "e"],
            "listeners": [{ "listener": "web", "connections": 4 }],
            "pools": [{ "pool": "app", "available": 1, "total": 2, "breaker": "open", "in_flight": 3 }],
        });
        let listing = |requests: u64| {
            json!({ "endpoints": [
                { "pool": "app", "endpoint": "127.0.0.1:9001", "state": "down", "requests": 7, "failures": 7,
                  "last_event": { "words": "3 checks in a row failed: connection refused" } },
                { "pool": "app", "endpoint": "127.0.0.1:9002", "state": "up", "requests": requests,
                  "server_errors": requests / 10, "in_flight": 3 },
            ]})
        };
        let bucket = |le: &str, count: u64| {
            format!(
                "forebay_endpoint_time_to_first_byte_seconds_bucket\
                 {{pool=\"app\",endpoint=\"127.0.0.1:9002\",le=\"{le}\"}} {count}\n"
            )
        };
        let total = |good: u64| {
            format!(
                "forebay_requests_total{{route=\"r\",class=\"2xx\"}} {good}\n\
                forebay_requests_total{{route=\"r\",class=\"5xx\"}} 5\n"
            )
        };
        let at = ambient::now();
        let mut view = View::new(Sample::of(
            at,
            status.clone(),
            &listing(100),
            &(bucket("0.1", 100) + &bucket("+Inf", 100) + &total(10)),
        ));
        let metrics = bucket("0.1", 150) + &bucket("+Inf", 150) + &total(70);
        view.take(Sample::of(at + Duration::from_secs(1), status, &listing(150), &metrics));
        view
    }

    fn screen(view: &View, colours: bool) -> (Vec<String>, bool) {
        let mut terminal = Terminal::new(TestBackend::new(80, 24)).unwrap();
        terminal.draw(|frame| draw(frame, view, colours)).unwrap();
        let buffer = terminal.backend().buffer();
        let lines = buffer.content.chunks(80).map(|line| line.iter().map(|cell| cell.symbol()).collect());
        let coloured = buffer.content.iter().any(|cell| cell.fg != Color::Reset);
        (lines.collect(), coloured)
    }

    #[test]
    fn it_fits_a_small_terminal() {
        let (lines, _) = screen(&view(), true);
        for (line, part) in [
            (0, "forebay 0.1.0  ready  up 1m05s  generation 2"),
            (1, "60.0 requests/s  0.0 errors/s  connections 4/10:  web 4"),
            (5, "! and 2 more"),
            (6, "POOL / ENDPOINT"),
            (7, "app                     1/2       50.0     5.0    50ms   99ms   3      its break"),
            (8, "  127.0.0.1:9001        down      0.0      0.0    -      -      0      3 checks"),
            (9, "  127.0.0.1:9002        up        50.0     5.0    50ms   99ms   3"),
            (22, "its breaker is open"),
            (23, "q quit"),
        ] {
            assert!(lines[line].contains(part), "line {line} has {part:?}:\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn colour_is_left_out_where_it_is_not_wanted() {
        assert!(screen(&view(), true).1);
        assert!(!screen(&view(), false).1);
    }

    #[test]
    fn lines_are_ordered_and_selected() {
        let mut view = view();
        view.sort(1);
        assert_eq!(view.ordered_by(), "requests/s");
        let names: Vec<_> = view.rows().into_iter().map(|row| row.endpoint.unwrap_or_default()).collect();
        assert_eq!(names, ["", "127.0.0.1:9002", "127.0.0.1:9001"]);
        view.select(9);
        assert_eq!(
            (view.selected(), view.line().as_str()),
            (2, "3 checks in a row failed: connection refused")
        );
        view.select(-9);
        view.sort(-2);
        assert_eq!((view.selected(), view.ordered_by()), (0, "in flight"));
    }

    #[test]
    fn an_order_is_given_once_it_is_confirmed() {
        let mut view = view();
        view.ask(Asking::Drain);
        assert!(view.asking().is_none() && view.line().contains("select an endpoint"));
        view.select(1);
        view.ask(Asking::Drain);
        assert_eq!(view.line(), "drain app/127.0.0.1:9001? y/n");
        view.answer(false);
        assert!(view.order().is_none());
        view.ask(Asking::Drain);
        view.answer(true);
        let order = view.order();
        assert!(order.is_some_and(|(path, word)| path.ends_with("9001") && word == "drain"));
        assert!(view.order().is_none() && view.asking().is_none());
    }

    #[test]
    fn plain_lines_say_the_same() {
        let text = lines(&view());
        assert!(text.contains("  127.0.0.1:9002") && text.contains("60.0 requests/s"), "{text}");
        assert!(text.contains("connection refused") && !text.contains('\u{1b}'), "{text}");
    }
}
