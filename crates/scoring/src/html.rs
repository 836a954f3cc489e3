//! Tables for a notebook. Every text in them is a number or a name from this crate, so nothing needs escaping.

use std::fmt::Write as _;

use crate::card::Decision;
use crate::kernel::Rows;
use crate::score::{Inputs, Parts, References, WEIGHTS};

/// More rows are not shown.
const ROWS_SHOWN_MAX: usize = 50;

/// A row of a table with its score and the parts of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranked {
    /// Its number in the table, from 0.
    pub row: u64,
    /// The weighted sum of the parts.
    pub score: f64,
    /// The five parts.
    pub parts: Parts,
}

/// The parts of ranked rows.
///
/// # Panics
/// For a row that is not in the batches.
#[must_use]
pub fn ranked(batches: &[Rows<'_>], references: &[References], best: &[(u64, f64)]) -> Vec<Ranked> {
    let mut firsts = Vec::with_capacity(batches.len());
    let mut first = 0_u64;
    for rows in batches {
        firsts.push(first);
        first += rows.len() as u64;
    }
    best.iter()
        .map(|&(row, score)| {
            let place = firsts.partition_point(|&first| first <= row) - 1;
            let rows = &batches[place];
            let inside = usize::try_from(row - firsts[place]).unwrap_or(usize::MAX);
            let [price, quality, latency_ms, availability, work] =
                rows.columns.map(|column| column.at(inside));
            let inputs = Inputs {
                price,
                quality,
                latency_ms,
                availability,
                work,
            };
            let model = rows.models.map_or(0, |models| models[inside] as usize);
            Ranked {
                row,
                score,
                parts: Parts::new(&inputs, &references[model]),
            }
        })
        .collect()
}

/// Ranked rows: what each part adds to the score.
#[must_use]
pub fn ranking_html(best: &[Ranked]) -> String {
    let mut html = String::from("<table><thead><tr><th>row</th><th>score</th>");
    headings(&mut html, WEIGHTS);
    html.push_str("</tr></thead><tbody>");
    for ranked in &best[..best.len().min(ROWS_SHOWN_MAX)] {
        let _ = write!(
            html,
            "<tr><td>{}</td><td>{:.4}</td>",
            ranked.row, ranked.score
        );
        cells(&mut html, &ranked.parts, WEIGHTS);
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    if best.len() > ROWS_SHOWN_MAX {
        let _ = write!(html, "<p>{} more rows</p>", best.len() - ROWS_SHOWN_MAX);
    }
    html
}

/// A decision card: what was chosen, from what, and what did not pass.
#[must_use]
pub fn card_html(decision: &Decision) -> String {
    let mut html = String::new();
    match &decision.pick {
        None => html.push_str("<p>nothing fits</p>"),
        Some(pick) => {
            let how = if pick.explored {
                "by chance, to learn"
            } else {
                "by its turn in the best band"
            };
            let _ = write!(
                html,
                "<p>picked {how}, propensity {:.6}, of {} feasible</p>",
                pick.propensity, decision.feasible
            );
        }
    }
    html.push_str("<table><thead><tr><th></th><th>key</th><th>band</th><th>score</th>");
    headings(&mut html, decision.weights());
    html.push_str("</tr></thead><tbody>");
    for candidate in &decision.candidates() {
        let mark = if candidate.chosen { "&#9654;" } else { "" };
        let _ = write!(html, "<tr><td>{mark}</td><td><code>");
        for byte in candidate.key {
            let _ = write!(html, "{byte:02x}");
        }
        let _ = write!(
            html,
            "</code></td><td>{}</td><td>{:.4}</td>",
            candidate.band, candidate.score
        );
        cells(&mut html, &candidate.parts, decision.weights());
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table>");
    let failed: Vec<String> = decision
        .gates
        .named()
        .into_iter()
        .filter(|&(_, count)| count > 0)
        .map(|(gate, count)| format!("{gate} {count}"))
        .collect();
    if !failed.is_empty() {
        let _ = write!(html, "<p>did not pass: {}</p>", failed.join(", "));
    }
    html
}

fn headings(html: &mut String, weights: [f64; 5]) {
    for (name, weight) in Parts::NAMES.into_iter().zip(weights) {
        let _ = write!(html, "<th>{weight:.2} {name}</th>");
    }
}

/// What each part adds, with a bar as long as the part.
fn cells(html: &mut String, parts: &Parts, weights: [f64; 5]) {
    for (part, weight) in parts.in_order().into_iter().zip(weights) {
        let percent = (part * 100.0).round();
        let _ = write!(
            html,
            "<td style=\"background:linear-gradient(to right,#9cc8 {percent}%,transparent {percent}%)\">{:.4}</td>",
            weight * part
        );
    }
}
