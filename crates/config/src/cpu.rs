//! Which CPUs the sending threads run on.

use std::fmt;

use crate::value::number;

/// One less than the CPUs in a `cpu_set_t` (CPU_SETSIZE).
const MAX_CPU: u64 = 1023;

/// Where threads are pinned to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CpuAffinity {
    /// The injector chooses.
    Auto,
    /// Threads are not pinned.
    None,
    /// Threads take these CPUs in turn, in the order given; no CPU is in it twice, and at least
    /// one is. Whether the machine has them is not checked.
    List(Vec<usize>),
}

impl CpuAffinity {
    pub(crate) const ALLOWED: &str = "auto, none, or a list of CPUs 0 to 1023 such as 0,2-3";

    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::None),
            list => parse_list(list).map(Self::List),
        }
    }
}

impl fmt::Display for CpuAffinity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.pad("auto"),
            Self::None => f.pad("none"),
            Self::List(cpus) => {
                let cpus: Vec<_> = cpus.iter().map(usize::to_string).collect();
                f.pad(&cpus.join(","))
            }
        }
    }
}

fn parse_list(text: &str) -> Result<Vec<usize>, String> {
    let mut cpus = Vec::new();
    for part in text.split(',') {
        let part = part.trim();
        let bad = |_| format!("{part:?} is not a CPU or a range of CPUs");
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let first: u16 = number(first, 0, MAX_CPU).map_err(bad)?;
        let last: u16 = number(last, 0, MAX_CPU).map_err(bad)?;
        if first > last {
            return Err(format!("the range {part:?} runs backwards"));
        }
        for cpu in (first..=last).map(usize::from) {
            if cpus.contains(&cpu) {
                return Err(format!("CPU {cpu} is in the list twice"));
            }
            cpus.push(cpu);
        }
    }
    Ok(cpus)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_lists() {
        assert_eq!(CpuAffinity::parse("Auto"), Ok(CpuAffinity::Auto));
        assert_eq!(CpuAffinity::parse("none"), Ok(CpuAffinity::None));
        assert_eq!(CpuAffinity::parse("5,0, 2-3"), Ok(CpuAffinity::List(vec![5, 0, 2, 3])));
        assert_eq!(CpuAffinity::parse("1023"), Ok(CpuAffinity::List(vec![1023])));
        assert_eq!(CpuAffinity::parse("0,2-3").unwrap().to_string(), "0,2,3");
    }

    #[test]
    fn refusals_say_which_part() {
        for (text, words) in [
            ("", "\"\" is not"),
            ("1,,2", "\"\" is not"),
            ("1024", "\"1024\""),
            ("0,x", "\"x\""),
            ("1-", "\"1-\""),
            ("3-2", "\"3-2\" runs backwards"),
            ("0-2,1", "CPU 1 is in the list twice"),
        ] {
            let problem = CpuAffinity::parse(text).unwrap_err();
            assert!(problem.contains(words), "{text:?}: {problem}");
        }
    }
}
