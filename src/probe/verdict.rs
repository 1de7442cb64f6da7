//! From answers to a verdict. Pure.

use jiff::Timestamp;

use crate::model::snapshot::{Health, Why};

/// The answers to one target so far.
#[derive(Debug)]
pub(super) struct Answers {
    verdict: Health,
    good: u32,
    bad: u32,
}

impl Answers {
    pub(super) const fn new(since: Timestamp) -> Self {
        Self { verdict: Health::unasked(since), good: 0, bad: 0 }
    }

    pub(super) const fn verdict(&self) -> &Health {
        &self.verdict
    }

    /// Whether the last answer was bad: then the next question does not wait for the settled pace.
    pub(super) const fn is_doubtful(&self) -> bool {
        self.bad > 0
    }

    /// Takes one answer; true when the verdict is another kind than before.
    ///
    /// Before the first good verdict bad answers are no verdict: something that starts is expected not to answer yet, and
    /// how long it may take is the deadline's business.
    pub(super) fn take(&mut self, answer: Result<(), Why>, successes: u32, failures: u32, now: Timestamp) -> bool {
        match answer {
            Ok(()) => {
                self.bad = 0;
                self.good = self.good.saturating_add(1);
                if self.good >= successes.max(1) && !matches!(self.verdict, Health::Healthy(_)) {
                    self.verdict = Health::Healthy(now);
                    return true;
                }
            }
            Err(why) => {
                self.good = 0;
                self.bad = self.bad.saturating_add(1);
                match &mut self.verdict {
                    Health::Unknown { since: _, last } => *last = Some(why),
                    Health::Unhealthy(_, last) => *last = why,
                    Health::Healthy(_) if self.bad >= failures.max(1) => {
                        self.verdict = Health::Unhealthy(now, why);
                        return true;
                    }
                    Health::Healthy(_) => {}
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_starting_replica_is_unknown_until_it_answers_often_enough() {
        let mut answers = Answers::new(at(0));
        for second in 0..9 {
            assert!(!answers.take(Err("refused".into()), 2, 3, at(second)));
        }
        assert_eq!(answers.verdict(), &Health::Unknown { since: at(0), last: Some("refused".into()) });
        assert!(!answers.take(Ok(()), 2, 3, at(10)));
        assert!(!answers.take(Err("503".into()), 2, 3, at(11)), "the run of good answers is broken");
        assert!(!answers.take(Ok(()), 2, 3, at(12)));
        assert!(answers.take(Ok(()), 2, 3, at(13)));
        assert_eq!(answers.verdict(), &Health::Healthy(at(13)));
    }

    #[test]
    fn a_healthy_one_falls_after_enough_bad_answers_in_a_row_and_recovers() {
        let mut answers = Answers::new(at(0));
        assert!(answers.take(Ok(()), 1, 3, at(0)));
        for (second, answer) in [(1, Err("a".into())), (2, Err("b".into())), (3, Ok(())), (4, Err("c".into()))] {
            assert!(!answers.take(answer, 1, 3, at(second)));
        }
        assert!(answers.is_doubtful());
        assert!(!answers.take(Err("d".into()), 1, 3, at(5)));
        assert!(answers.take(Err("e".into()), 1, 3, at(6)));
        assert_eq!(answers.verdict(), &Health::Unhealthy(at(6), "e".into()));
        assert!(answers.take(Ok(()), 1, 3, at(7)));
        assert_eq!(answers.verdict(), &Health::Healthy(at(7)));
    }
}
