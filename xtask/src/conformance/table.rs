//! The results as Markdown, and their place in the documents.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result, bail};

use super::{captures::ROWS, program::Program};

/// What became of a capture in each of the programs.
pub(crate) struct Outcome {
    pub(crate) row: &'static str,
    pub(crate) capture: &'static str,
    pub(crate) verdicts: BTreeMap<Program, Result<(), String>>,
}

/// How many captures were read right, of how many.
#[derive(Clone, Copy, Default)]
struct Score {
    right: usize,
    all: usize,
}

/// For each row what it is about and how each program did, and the totals.
pub(crate) fn rows(outcomes: &[Outcome], programs: &[Program]) -> String {
    let mut lines = header("row", "situation", programs);
    for (row, situation) in ROWS {
        let scores = scores(outcomes.iter().filter(|outcome| outcome.row == row), programs);
        lines.push(line(row, situation, scores.into_iter().map(|score| score.to_string())));
    }
    let total = scores(outcomes.iter(), programs);
    lines.push(line("", "**all captures**", total.into_iter().map(|score| format!("**{score}**"))));
    let right = ROWS.map(|(row, _)| scores(outcomes.iter().filter(|outcome| outcome.row == row), programs));
    let rows = (0..programs.len()).map(|program| {
        let right = right.iter().filter(|scores| scores[program].right == scores[program].all).count();
        format!("**{}**", Score { right, all: ROWS.len() })
    });
    lines.push(line("", "**rows without a miss**", rows));
    lines.join("\n")
}

/// For each capture what each program made of it.
pub(crate) fn captures(outcomes: &[Outcome], programs: &[Program]) -> String {
    let mut lines = header("row", "capture", programs);
    for (row, _) in ROWS {
        for outcome in outcomes.iter().filter(|outcome| outcome.row == row) {
            let verdicts = programs.iter().map(|program| match outcome.verdicts.get(program) {
                None => "-".to_owned(),
                Some(Ok(())) => "yes".to_owned(),
                Some(Err(problem)) => problem.replace('|', "\\|"),
            });
            lines.push(line(row, outcome.capture, verdicts));
        }
    }
    lines.join("\n")
}

/// A part of a document that a command writes: what stands between two comments.
pub(crate) struct Section<'a> {
    pub(crate) file: &'a Path,
    pub(crate) name: &'a str,
}

impl Section<'_> {
    pub(crate) fn write(&self, content: &str) -> Result<()> {
        let text = fs::read_to_string(self.file).with_context(|| format!("read {}", self.file.display()))?;
        let (before, _, after) = self.split(&text)?;
        let text = format!("{before}\n{content}\n{after}");
        fs::write(self.file, text).with_context(|| format!("write {}", self.file.display()))
    }

    /// Fails when the cells of `content` are not those that the document has in the same columns.
    pub(crate) fn check(&self, content: &str) -> Result<()> {
        let text = fs::read_to_string(self.file).with_context(|| format!("read {}", self.file.display()))?;
        let (_, written, _) = self.split(&text)?;
        let [mut written, found] = [written, content].map(|text| text.lines().filter(|line| line.starts_with('|')));
        for found in found {
            // The rule below the header is as long as there are columns.
            let is = |written: &str| cells(found).iter().zip(cells(written)).all(|(found, written)| *found == written);
            if !written.next().is_some_and(is) {
                bail!("{} is out of date where this was found: {found} (--write renews it)", self.file.display());
            }
        }
        match written.next() {
            None => Ok(()),
            Some(line) => bail!("{} has a line too many: {line} (--write renews it)", self.file.display()),
        }
    }

    /// What precedes the content, the content and what follows it; the comments belong to the outer two.
    fn split<'t>(&self, text: &'t str) -> Result<(&'t str, &'t str, &'t str)> {
        let [begin, end] = ["begin", "end"].map(|word| format!("<!-- {word} {} -->", self.name));
        let found = text.find(&begin).and_then(|at| {
            let start = at + begin.len();
            Some((start, start + text[start..].find(&end)?))
        });
        let Some((start, stop)) = found else {
            bail!("{} has no lines {begin} and {end}", self.file.display());
        };
        Ok((&text[..start], &text[start..stop], &text[stop..]))
    }
}

impl std::fmt::Display for Score {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.all {
            0 => write!(f, "-"),
            all => write!(f, "{}/{all}", self.right),
        }
    }
}

fn scores<'a>(outcomes: impl Iterator<Item = &'a Outcome>, programs: &[Program]) -> Vec<Score> {
    let mut scores = vec![Score::default(); programs.len()];
    for outcome in outcomes {
        for (score, program) in scores.iter_mut().zip(programs) {
            if let Some(verdict) = outcome.verdicts.get(program) {
                score.all += 1;
                score.right += usize::from(verdict.is_ok());
            }
        }
    }
    scores
}

fn header(first: &str, second: &str, programs: &[Program]) -> Vec<String> {
    let names = programs.iter().map(|program| program.name().to_owned());
    vec![line(first, second, names), format!("|{}", "---|".repeat(programs.len() + 2))]
}

fn line(first: &str, second: &str, rest: impl Iterator<Item = String>) -> String {
    let cells: Vec<String> = [first, second].map(str::to_owned).into_iter().chain(rest).collect();
    format!("| {} |", cells.join(" | "))
}

fn cells(line: &str) -> Vec<&str> {
    line.trim().trim_matches('|').split('|').map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes(second: Result<(), String>) -> Vec<Outcome> {
        let peer = (Program::Tcpflow, Err("wrong".to_owned()));
        vec![
            Outcome { row: "1", capture: "a", verdicts: [(Program::Xdpflow, Ok(())), peer.clone()].into() },
            Outcome { row: "1", capture: "b", verdicts: [(Program::Xdpflow, second), peer].into() },
        ]
    }

    #[test]
    fn a_row_counts_its_captures() {
        let table = rows(&outcomes(Err("no".to_owned())), &[Program::Xdpflow, Program::Tcpflow, Program::Tshark]);
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines[0], "| row | situation | xdpflow | tcpflow | tshark |");
        assert_eq!(lines[2], "| 1 | segments in order | 1/2 | 0/2 | - |");
        assert!(table.contains("| **all captures** | **1/2** | **0/2** | **-** |"));
    }

    #[test]
    fn only_what_stands_between_the_comments_is_replaced() {
        let file = std::env::temp_dir().join(format!("xtask-table-{}", std::process::id()));
        let section = Section { file: &file, name: "table" };
        fs::write(&file, "before <!-- begin table -->\nold\n<!-- end table --> after\n").unwrap();
        let all = [Program::Xdpflow, Program::Tcpflow];
        section.write(&rows(&outcomes(Ok(())), &all)).unwrap();
        section.write(&rows(&outcomes(Ok(())), &all)).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        assert!(text.starts_with("before <!-- begin table -->\n| row |"));
        assert!(text.ends_with(" |\n<!-- end table --> after\n"));

        // The first columns are looked at alone where the others were not tried.
        section.check(&rows(&outcomes(Ok(())), &all[..1])).unwrap();
        assert!(section.check(&rows(&outcomes(Err("no".to_owned())), &all[..1])).is_err());
        assert!(
            section.check(&rows(&outcomes(Ok(())), &all[..1]).lines().take(9).collect::<Vec<_>>().join("\n")).is_err()
        );

        fs::write(&file, "nothing").unwrap();
        assert!(section.write("table").is_err());
        fs::remove_file(&file).unwrap();
    }
}
