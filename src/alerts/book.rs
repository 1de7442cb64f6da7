//! What is to be told, what was told, and when the next of it is due. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

use super::verdict::{State, Told, superseded};

/// Commits that are kept in mind: the one in force, one that was rejected, and those that wait for their last word.
const KEPT: usize = 8;
/// Right after a start nobody knows yet whether a commit has long been served: "pending" waits this long.
const GRACE: Duration = Duration::from_secs(10);
/// Between two tellings that differ in words alone.
const WORDS: Duration = Duration::from_secs(15);
/// After this many about one commit both kinds become rare: GitHub takes 1000 a commit.
const MANY: u32 = 20;
/// Then between two states.
const RARE_STATES: Duration = Duration::from_secs(60);
/// And between two wordings.
const RARE_WORDS: Duration = Duration::from_secs(300);

/// What a host is told in two places.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// The commit's status.
    Status,
    /// The deployment of it: its state alone, each is a line in people's timeline.
    Deployment,
}

/// One commit in one place.
#[derive(Debug)]
struct Line {
    part: Part,
    want: Told,
    told: Option<Told>,
    /// It may have arrived, whatever the answer was.
    tried: bool,
    times: u32,
    last: Option<Instant>,
    /// Refused for good; another state is another question.
    refused: Option<State>,
}

/// Everything there is to tell.
#[derive(Debug)]
pub(super) struct Book {
    deployments: bool,
    /// Until then a first "pending" waits.
    quiet: Instant,
    /// Oldest commit first.
    lines: Vec<Line>,
}

impl Line {
    fn is_told(&self) -> bool {
        let Self { part, want, told, .. } = self;
        told.as_ref().is_some_and(|told| match part {
            Part::Status => told == want,
            Part::Deployment => told.state == want.state,
        })
    }

    /// When it is due; none when there is nothing to tell.
    fn due(&self, quiet: Instant, now: Instant) -> Option<Instant> {
        if self.is_told() || self.refused == Some(self.want.state) {
            return None;
        }
        let words_alone = self.told.as_ref().is_some_and(|told| told.state == self.want.state);
        let due = match (self.last, words_alone, self.times >= MANY) {
            (None, ..) if self.want.state == State::Pending => quiet,
            (None, ..) | (_, false, false) => now,
            (Some(last), false, true) => last + RARE_STATES,
            (Some(last), true, false) => last + WORDS,
            (Some(last), true, true) => last + RARE_WORDS,
        };
        // What is overdue is not more urgent: then the older commit has its word first.
        Some(due.max(now))
    }
}

impl Book {
    pub(super) fn new(deployments: bool, now: Instant) -> Self {
        Self { deployments, quiet: now + GRACE, lines: Vec::new() }
    }

    /// Takes in the newest verdicts, the one on the commit in force first.
    pub(super) fn look(&mut self, verdicts: &[Told], now: Instant) {
        let in_force = verdicts.iter().find(|it| it.state != State::Rejected);
        if let Some(by) = in_force {
            let is_new = !self.lines.iter().any(|line| line.want.commit == by.commit);
            if is_new && !self.lines.is_empty() {
                // This one began under our eyes.
                self.quiet = self.quiet.min(now);
            }
            let left = |line: &Line| line.want.state == State::Pending && line.want.commit != by.commit;
            self.lines.retain(|line| !left(line) || line.tried);
            for line in self.lines.iter_mut().filter(|line| left(line)) {
                line.want = superseded(&line.want.commit, &by.commit);
            }
        }
        for told in verdicts {
            self.want(Part::Status, told);
            // What was rejected is not deployed.
            if self.deployments && told.state != State::Rejected {
                self.want(Part::Deployment, told);
            }
        }
        while self.commits().len() > KEPT {
            let oldest = self.commits().into_iter().find(|id| verdicts.iter().all(|it| it.commit != *id));
            let Some(oldest) = oldest.map(ToOwned::to_owned) else { break };
            self.lines.retain(|line| line.want.commit != oldest);
        }
    }

    fn want(&mut self, part: Part, told: &Told) {
        match self.lines.iter_mut().find(|line| line.part == part && line.want.commit == told.commit) {
            Some(line) => line.want = told.clone(),
            None => self.lines.push(Line {
                part,
                want: told.clone(),
                told: None,
                tried: false,
                times: 0,
                last: None,
                refused: None,
            }),
        }
    }

    /// The commits in mind, oldest first.
    pub(super) fn commits(&self) -> Vec<&str> {
        let mut commits: Vec<&str> = Vec::new();
        for line in &self.lines {
            if !commits.contains(&line.want.commit.as_str()) {
                commits.push(&line.want.commit);
            }
        }
        commits
    }

    /// What is due first, and when.
    pub(super) fn next(&self, now: Instant) -> Option<(Instant, Part, Told)> {
        let due = |line: &Line| Some((line.due(self.quiet, now)?, line.part, line.want.clone()));
        self.lines.iter().filter_map(due).min_by_key(|(at, ..)| *at)
    }

    /// All that is not told yet, due or not.
    pub(super) fn untold(&self, now: Instant) -> Vec<(Part, Told)> {
        let open = |line: &&Line| line.due(self.quiet, now).is_some();
        self.lines.iter().filter(open).map(|line| (line.part, line.want.clone())).collect()
    }

    fn line(&mut self, part: Part, told: &Told) -> Option<&mut Line> {
        self.lines.iter_mut().find(|line| line.part == part && line.want.commit == told.commit)
    }

    /// It is about to be told.
    pub(super) fn try_it(&mut self, part: Part, told: &Told) {
        if let Some(line) = self.line(part, told) {
            line.tried = true;
        }
    }

    /// It was told.
    pub(super) fn done(&mut self, part: Part, told: &Told, now: Instant) {
        if let Some(line) = self.line(part, told) {
            line.told = Some(told.clone());
            line.times = line.times.saturating_add(1);
            line.last = Some(now);
            line.refused = None;
        }
    }

    /// It was refused, and will be.
    pub(super) fn refused(&mut self, part: Part, told: &Told, now: Instant) {
        if let Some(line) = self.line(part, told) {
            line.refused = Some(told.state);
            line.times = line.times.saturating_add(1);
            line.last = Some(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(commit: &str, state: State, description: &str) -> Told {
        Told { commit: commit.into(), state, description: description.into() }
    }

    /// Tells everything that is due at `now`; what was told.
    fn tell(book: &mut Book, now: Instant) -> Vec<(Part, Told)> {
        let mut said = Vec::new();
        while let Some((at, part, told)) = book.next(now)
            && at <= now
        {
            book.try_it(part, &told);
            book.done(part, &told, now);
            said.push((part, told));
        }
        said
    }

    #[test]
    fn a_first_pending_waits_and_a_success_right_after_the_start_does_not() {
        let start = Instant::now();
        let mut book = Book::new(false, start);
        book.look(&[told("a", State::Pending, "x")], start);
        assert_eq!(tell(&mut book, start), []);
        let good = told("a", State::Success, "y");
        book.look(std::slice::from_ref(&good), start);
        assert_eq!(tell(&mut book, start), [(Part::Status, good.clone())]);
        book.look(&[good], start);
        assert_eq!(tell(&mut book, start), []);
        // The next commit began while somebody watched.
        let next = told("b", State::Pending, "x");
        book.look(std::slice::from_ref(&next), start);
        assert_eq!(tell(&mut book, start), [(Part::Status, next)]);
    }

    #[test]
    fn words_alone_are_told_rarely_and_states_at_once_until_there_are_many() {
        let start = Instant::now();
        let mut book = Book::new(false, start - GRACE);
        book.look(&[told("a", State::Pending, "0")], start);
        assert_eq!(tell(&mut book, start).len(), 1);
        book.look(&[told("a", State::Pending, "1")], start);
        assert_eq!(tell(&mut book, start + WORDS / 2), []);
        book.look(&[told("a", State::Pending, "2")], start);
        assert_eq!(tell(&mut book, start + WORDS), [(Part::Status, told("a", State::Pending, "2"))]);
        let mut said = 0;
        for second in 0..3600 {
            let state = if second % 2 == 0 { State::Failure } else { State::Pending };
            book.look(&[told("a", state, "")], start);
            said += tell(&mut book, start + WORDS + Duration::from_secs(second)).len();
        }
        assert!((60..100).contains(&said), "{said} in an hour of a state that comes and goes");
    }

    #[test]
    fn a_commit_that_was_pending_gets_a_last_word_and_one_never_told_gets_none() {
        let start = Instant::now();
        let mut book = Book::new(true, start - GRACE);
        book.look(&[told("a", State::Pending, "")], start);
        assert_eq!(tell(&mut book, start).len(), 2);
        book.look(&[told("b", State::Pending, "")], start);
        book.look(&[told("c", State::Success, "")], start);
        let said: Vec<_> = tell(&mut book, start).into_iter().map(|(part, it)| (part, it.commit, it.state)).collect();
        let both = |id: &str, state| [(Part::Status, id.to_owned(), state), (Part::Deployment, id.to_owned(), state)];
        assert_eq!(said, [both("a", State::Superseded), both("c", State::Success)].concat());
    }

    #[test]
    fn a_rejected_commit_neither_supersedes_nor_is_deployed() {
        let start = Instant::now();
        let mut book = Book::new(true, start - GRACE);
        book.look(&[told("a", State::Pending, ""), told("b", State::Rejected, "")], start);
        let said: Vec<_> = tell(&mut book, start).into_iter().map(|(part, it)| (part, it.commit)).collect();
        let expected = [(Part::Status, "a"), (Part::Deployment, "a"), (Part::Status, "b")];
        assert_eq!(said, expected.map(|(part, id)| (part, id.to_owned())));
        // It is fixed by the next one, and stays what it was.
        book.look(&[told("c", State::Success, "")], start);
        assert!(tell(&mut book, start).iter().all(|(_, it)| it.commit != "b"));
    }

    #[test]
    fn what_is_refused_is_not_repeated_until_the_state_is_another() {
        let start = Instant::now();
        let mut book = Book::new(false, start - GRACE);
        let first = told("a", State::Pending, "x");
        book.look(std::slice::from_ref(&first), start);
        book.refused(Part::Status, &first, start);
        book.look(&[told("a", State::Pending, "y")], start);
        assert_eq!((book.next(start), book.untold(start)), (None, vec![]));
        book.look(&[told("a", State::Success, "y")], start);
        assert_eq!(tell(&mut book, start).len(), 1);
    }

    #[test]
    fn only_the_last_few_commits_are_kept() {
        let start = Instant::now();
        let mut book = Book::new(true, start);
        for id in 0..1000 {
            let told = told(&id.to_string(), State::Pending, "");
            book.look(std::slice::from_ref(&told), start);
            book.try_it(Part::Status, &told);
            book.try_it(Part::Deployment, &told);
        }
        assert_eq!((book.commits().len(), book.commits().last().copied()), (KEPT, Some("999")));
        assert!(book.lines.len() <= 2 * KEPT);
    }
}
