use super::*;

/// Targets 192.0.2.1, 192.0.2.2, ... with these weights.
fn targets(weights: &[u16]) -> Vec<WeightedTarget> {
    let target = |(last, &weight): (u8, &u16)| WeightedTarget {
        target: NatTarget { address: [192, 0, 2, last].into(), port: 8081 },
        weight,
    };
    (1..).zip(weights).map(target).collect()
}

/// Which target each slot has, by identity.
fn owners(targets: &[WeightedTarget]) -> Vec<NatTarget> {
    let table = table(targets).unwrap();
    table.iter().map(|slot| targets[usize::from(*slot)].target).collect()
}

fn count(table: &[u16], index: u16) -> usize {
    table.iter().filter(|slot| **slot == index).count()
}

#[test]
fn the_size_is_prime_and_fits_the_targets() {
    assert!((2..SLOTS).all(|divisor| !SLOTS.is_multiple_of(divisor)));
    const { assert!(SLOTS >= 64 * config::MAX_RULE_TARGETS) };
}

/// Instances that share flows must agree, whatever their version. The answers are those of another
/// program: the paper's pseudocode in Python, with the whole permutations.
#[test]
fn the_table_never_changes() {
    let v6 = NatTarget { address: "2001:db8::9".parse().unwrap(), port: 0 };
    let digest = |table: [u16; SLOTS]| {
        hash(0, &table.iter().flat_map(|slot| slot.to_be_bytes()).collect::<Vec<_>>())
    };
    let three = table(&targets(&[1, 1, 1])).unwrap();
    assert_eq!(three[..16], [0, 0, 1, 1, 2, 0, 2, 2, 1, 0, 1, 2, 0, 0, 2, 2]);
    assert_eq!(digest(three), 0x0094_df0c_5230_70cd);
    assert_eq!(digest(table(&targets(&[3, 0, 1, 500])).unwrap()), 0x77b9_8e20_22d2_ceea);
    assert_eq!(identity(&v6)[..], *b"\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x09\0\0");
    assert_eq!(hash(0, b"123456789"), 0x482f_2645_c6dd_3324);
}

#[test]
fn the_order_of_the_targets_does_not_matter() {
    let mut list = targets(&[1, 5, 3, 2, 2, 9]);
    let expected = owners(&list);
    list.reverse();
    assert_eq!(owners(&list), expected);
    list.swap(0, 3);
    assert_eq!(owners(&list), expected);
}

#[test]
fn shares_follow_the_weights() {
    for weights in [
        &[1, 1][..],
        &[1; 64],
        &[3, 1],
        &[1, 2, 3, 4],
        &[100, 99, 1],
        &[65535, 65535, 1000],
        &[7, 0, 2],
    ] {
        let table = table(&targets(weights)).unwrap();
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        for (index, &weight) in (0..).zip(weights) {
            let exact = SLOTS as f64 * f64::from(weight) / sum as f64;
            let difference = (count(&table, index) as f64 - exact).abs();
            assert!(difference <= 2.0, "{weights:?}, target {index}: {difference} from {exact}");
        }
    }
}

#[test]
fn without_weight_there_is_no_slot() {
    assert_eq!(table(&[]), None);
    assert_eq!(table(&targets(&[0])), None);
    assert_eq!(table(&targets(&[0, 0])), None);
    assert_eq!(count(&table(&targets(&[1, 0])).unwrap(), 1), 0);
    assert_eq!(table(&targets(&[65535])).unwrap(), [0; SLOTS]);
    // Its share is a sixteenth of a slot.
    assert_eq!(count(&table(&targets(&[65535, 1])).unwrap(), 1), 0);
}

#[test]
fn neighbours_have_independent_orders() {
    // Ports that follow each other, on one address: what FNV alone would give similar orders.
    let list: Vec<_> = (8000..8064)
        .map(|port| NatTarget { address: [192, 0, 2, 1].into(), port }.into())
        .collect();
    let turns: Vec<Turn> = list.iter().map(|target| Turn::new(0, target)).collect();
    let mut starts: Vec<_> = turns.iter().map(|turn| turn.position).collect();
    let mut steps: Vec<_> = turns.iter().map(|turn| turn.step).collect();
    for values in [&mut starts, &mut steps] {
        values.sort_unstable();
        values.dedup();
        assert!(values.len() >= 62, "{values:?}");
        let gap = values.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(gap < Some(SLOTS / 5), "{values:?}");
    }
}

/// Flows that are tracked stay where they are; this is about new ones. `--nocapture` shows figures.
#[test]
fn a_target_that_goes_moves_few_slots_of_the_others() {
    for number in 2..=20u16 {
        let all = targets(&vec![1; number.into()]);
        let before = owners(&all);
        let (mut worst, mut others, mut total) = (0, 0, 0);
        for gone in &all {
            let left: Vec<_> = all.iter().filter(|t| t != &gone).copied().collect();
            let after = owners(&left);
            let moved = before.iter().zip(&after).filter(|(b, a)| a != b).count();
            let freed = before.iter().filter(|target| **target == gone.target).count();
            (others, total) = (others + moved - freed, total + moved);
            worst = worst.max(moved - freed);
        }
        let share = |slots: usize, of: u16| 100.0 * slots as f64 / (SLOTS * usize::from(of)) as f64;
        let (others, total, worst) = (share(others, number), share(total, number), share(worst, 1));
        eprintln!("{number} targets: {others:.2}% (at most {worst:.2}%), total {total:.2}%");
        let most = 100.0 / f64::from(number) + 2.5;
        assert!(worst < 2.5 && total < most, "{number} targets: {worst}, {total}");
    }
}
