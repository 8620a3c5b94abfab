//! From how many workers on more are of no use. Pure.

use serde::Serialize;

use super::median;

/// So much of the most is as good as all of it: what is beyond does not pay for a thread.
pub const ENOUGH: f64 = 0.95;

/// Where it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Knee {
    /// So many workers are enough.
    pub workers: u32,
    /// So many did the most.
    pub best: u32,
    /// Whether the rounds agree: each of them has the same side of the knee.
    pub is_clear: bool,
    /// Whether more than were tried might do more.
    pub is_at_end: bool,
    /// Each number's rate against the best one's: the median of the ratios within each round.
    #[serde(skip)]
    pub to_best: Vec<f64>,
}

/// Finds it in rates by round, of numbers of workers in ascending order.
pub fn find(rates: &[(u32, Vec<f64>)]) -> Knee {
    let middle = |rates: &[f64]| {
        let mut sorted = rates.to_vec();
        sorted.sort_by(f64::total_cmp);
        median(&sorted).unwrap_or(0.0)
    };
    let best = rates.iter().max_by(|(_, one), (_, other)| middle(one).total_cmp(&middle(other)));
    let (best, best_rates) = best.map_or((1, [].as_slice()), |(workers, rates)| (*workers, rates.as_slice()));
    // Within one round, what else the machine did was the same for all.
    let ratios = |own: &[f64]| -> Vec<f64> {
        own.iter().zip(best_rates).map(|(own, best)| if *best > 0.0 { own / best } else { 0.0 }).collect()
    };
    let to_best: Vec<f64> = rates.iter().map(|(_, own)| middle(&ratios(own))).collect();
    let enough = rates.iter().zip(&to_best).find(|(_, ratio)| **ratio >= ENOUGH);
    let (workers, own) = enough.map_or((best, best_rates), |((workers, own), _)| (*workers, own.as_slice()));
    let before = rates.iter().rev().find(|(fewer, _)| *fewer < workers).map(|(_, rates)| ratios(rates));
    let stays = ratios(own).iter().all(|ratio| *ratio >= ENOUGH);
    let falls = before.is_none_or(|before| before.iter().all(|ratio| *ratio < ENOUGH));
    let last = rates.last().map_or(0, |(workers, _)| *workers);
    Knee { workers, best, is_clear: stays && falls, is_at_end: workers == last && rates.len() > 1, to_best }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(rates: &[(u32, &[f64])]) -> Knee {
        let rates: Vec<(u32, Vec<f64>)> =
            rates.iter().map(|(workers, rates)| (*workers, rates.to_vec())).collect();
        find(&rates)
    }

    #[test]
    fn the_fewest_workers_that_do_nearly_the_most_are_enough() {
        let knee =
            of(&[(1, &[100.0, 101.0]), (2, &[195.0, 197.0]), (4, &[200.0, 202.0]), (8, &[190.0, 180.0])]);
        assert_eq!((knee.workers, knee.best, knee.is_clear, knee.is_at_end), (2, 4, true, false));
        assert!((knee.to_best[0] - 0.5).abs() < 1e-9 && (knee.to_best[2] - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_machine_that_gets_slower_from_round_to_round_does_not_move_it() {
        // Absolutely, one worker in the first round did more than two in the last.
        let knee = of(&[(1, &[100.0, 60.0, 30.0]), (2, &[180.0, 108.0, 54.0]), (4, &[181.0, 107.0, 55.0])]);
        assert_eq!((knee.workers, knee.is_clear), (2, true));
    }

    #[test]
    fn it_is_told_when_the_rounds_disagree_and_when_more_might_do_more() {
        let knee = of(&[(1, &[100.0, 190.0, 100.0]), (2, &[200.0, 195.0, 200.0])]);
        assert_eq!((knee.workers, knee.is_clear, knee.is_at_end), (2, false, true));
        let one = of(&[(3, &[100.0])]);
        assert_eq!((one.workers, one.is_clear, one.is_at_end), (3, true, false));
        assert_eq!(of(&[(1, &[0.0]), (2, &[0.0])]).workers, 2, "nothing is better than nothing");
    }
}
