//! Words for people.

/// `1 service`, `2 services`.
pub fn counted(count: impl TryInto<u64>, what: &str) -> String {
    // What does not fit is many.
    let count = count.try_into().unwrap_or(u64::MAX);
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_one() {
        assert_eq!(
            [counted(0_u32, "step"), counted(1_usize, "step"), counted(2, "step")],
            ["0 steps", "1 step", "2 steps"]
        );
    }
}
