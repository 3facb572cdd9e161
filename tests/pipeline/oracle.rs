//! Answers that our code did not compute: the corpus's Python scripts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::corpus::{Corpus, parse_hex, to_hex};

/// Runs a script once for each line of arguments, in one interpreter: starting one takes longer
/// than most of the work.
const DRIVER: &str = "
import runpy, sys
for line in sys.stdin:
    sys.argv = line.rstrip('\\n').split('\\t')
    runpy.run_path(sys.argv[0], run_name='__main__')
";

/// Debian's interpreter, for which scapy is installed.
const PYTHON: &str = "/usr/bin/python3";

/// A folder of this test process that is removed at the end.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Result<Self> {
        let path = std::env::temp_dir().join(format!("end-to-end-{name}-{}", std::process::id()));
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `script` once for each list of arguments and returns what all runs printed.
fn run(script: &Path, runs: &[Vec<String>]) -> Result<String> {
    let mut input = String::new();
    for arguments in runs {
        let mut line = vec![script.display().to_string()];
        line.extend_from_slice(arguments);
        input += &(line.join("\t") + "\n");
    }
    let scratch = Scratch::new("stdin")?;
    let file = scratch.path().join("arguments");
    fs::write(&file, input)?;
    let output =
        Command::new(PYTHON)
            .args(["-c", DRIVER])
            .stdin(fs::File::open(&file)?)
            .output()
            .with_context(|| format!("running {PYTHON} (scripts/prepare.sh test installs it)"))?;
    if !output.status.success() {
        bail!("{}: {}", script.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// Wraps every capture the way AWS Traffic Mirroring does; returns the new captures, in order.
pub fn wrap(corpus: &Corpus, captures: &[PathBuf], scratch: &Scratch) -> Result<Vec<PathBuf>> {
    let wrapped: Vec<PathBuf> =
        (0..captures.len()).map(|n| scratch.path().join(format!("{n}.pcap"))).collect();
    let runs: Vec<Vec<String>> = captures
        .iter()
        .zip(&wrapped)
        .map(|(from, to)| vec![from.display().to_string(), to.display().to_string()])
        .collect();
    run(&corpus.tool("wrap_vxlan.py"), &runs)?;
    Ok(wrapped)
}

/// What the NAT oracle says of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Translated; the whole frame.
    Nat(Vec<u8>),
    /// Left alone.
    Pass,
    /// A later fragment: ports unknown.
    Fragment,
}

/// Asks the NAT oracle about every frame. `arguments` are its options.
pub fn nat(corpus: &Corpus, frames: &[Vec<u8>], arguments: &[&str]) -> Result<Vec<Answer>> {
    let scratch = Scratch::new("nat")?;
    let file = scratch.path().join("frames.hex");
    fs::write(&file, frames.iter().map(|frame| to_hex(frame) + "\n").collect::<String>())?;
    let mut run_arguments = vec![file.display().to_string()];
    run_arguments.extend(arguments.iter().map(ToString::to_string));
    let text = run(&corpus.tool("nat_oracle.py"), &[run_arguments])?;
    let answers = text.lines().map(parse_answer).collect::<Result<Vec<_>>>()?;
    ensure!(answers.len() == frames.len(), "{} answers on {} frames", answers.len(), frames.len());
    Ok(answers)
}

fn parse_answer(line: &str) -> Result<Answer> {
    let mut fields = line.split('\t');
    let (action, frame) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let note = fields.next().unwrap_or_default();
    ensure!(!note.contains("DISAGREES"), "the oracle disagrees with scapy: {line}");
    Ok(match action {
        "nat" => Answer::Nat(parse_hex(frame)?),
        "pass" => Answer::Pass,
        "frag" => Answer::Fragment,
        _ => bail!("can't read the oracle's line {line:?}"),
    })
}
