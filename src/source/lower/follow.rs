//! `follow:`.

use crate::model::desired::Pull;
use crate::model::follow::{Follow, FollowError, TagOrder};
use crate::source::error::shown;
use crate::source::file::given::Given;
use crate::source::file::scalars::Text;
use crate::source::file::service::RawFollow;
use crate::source::report::Scope;

const EXPECTED: &str = "`{semver: \">=1.4 <2\"}` or `{regex: \"main-[0-9a-f]+-([0-9]+)\", order: numeric}`";

/// The policy; none when there is none, or it is wrong (then it is reported).
pub(super) fn lower(scope: &mut Scope<'_, '_>, raw: Option<&RawFollow>, pull: Pull) -> Option<Follow> {
    let raw = raw?;
    let order = scope.take(&["follow", "order"], &raw.order, |text| match text {
        "numeric" => Some(TagOrder::Numeric),
        "alphabetical" => Some(TagOrder::Alphabetical),
        "newest" => Some(TagOrder::Newest),
        _ => None,
    });
    if pull == Pull::Never {
        scope.error(&["follow"], "`follow` asks a registry for tags, and `docker.pull: never` asks none").hint =
            Some("remove one of them".to_owned());
    }
    match (&raw.semver, &raw.regex) {
        (Given::Missing, Given::Missing) => {
            scope.expected(&["follow"], "`follow` follows nothing", EXPECTED);
            None
        }
        (Given::Value(_) | Given::Null, Given::Value(_) | Given::Null) => {
            scope.error(&["follow"], "`follow` has both `semver` and `regex`").hint =
                Some("keep one of them".to_owned());
            None
        }
        (Given::Value(Text(range)), _) => {
            if raw.order.is_given() {
                scope.error(&["follow", "order"], "`order` has no meaning with `semver`").hint =
                    Some("remove it: versions have an order of their own".to_owned());
            }
            policy(scope, "semver", range, Follow::semver(range))
        }
        // Numbers by default: compared as text, 10 would come before 9 and nobody would notice.
        (_, Given::Value(Text(pattern))) => {
            policy(scope, "regex", pattern, Follow::regex(pattern, order.unwrap_or(TagOrder::Numeric)))
        }
        // A key without a value is reported where all of them are.
        _ => None,
    }
}

fn policy(scope: &mut Scope<'_, '_>, key: &str, text: &str, read: Result<Follow, FollowError>) -> Option<Follow> {
    match read {
        Ok(policy) => Some(policy),
        Err(FollowError { what, hint }) => {
            let what = format!("`{}` cannot be followed: {what}", shown(text));
            scope.error(&["follow", key], what).hint = Some(hint);
            None
        }
    }
}
