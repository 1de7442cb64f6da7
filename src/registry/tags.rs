//! Every tag of a repository, page by page: a page that is missing makes the list unreadable.

use aws_sdk_ecr::types::{DescribeImagesFilter, TagStatus};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, LINK};
use reqwest::{Method, StatusCode, Url};
use serde::Deserialize;

use super::ecr::EcrApi;
use super::login::Logins;
use super::oci::{Oci, Question, body};
use super::{manifest, rule, words};
use crate::aws;
use crate::model::image::{Repository, Tag};
use crate::model::snapshot::{Fact, TagSeen, Why};

/// Tags asked for at once; a registry may send fewer, or more.
const PAGE: u32 = 1000;
/// The largest page that is read: some registries send everything at once.
const LARGEST_PAGE: usize = 4 << 20;
/// Pages of one list. A registry that always names a next one is not asked for ever.
const PAGES: usize = 100;
/// Tags of one repository; one with more is not followed, for nobody saw the whole.
const MOST: usize = 20_000;

/// The tags at a registry of the distribution specification, which does not say when they were pushed.
pub(super) async fn at_oci(oci: &Oci, repository: &Repository, logins: &Logins) -> Fact<Vec<TagSeen>> {
    match pages(oci, repository, logins).await {
        Ok(fact) => fact,
        Err(why) => Fact::Unreadable(why),
    }
}

async fn pages(oci: &Oci, repository: &Repository, logins: &Logins) -> Result<Fact<Vec<TagSeen>>, Why> {
    #[derive(Deserialize)]
    struct Page {
        tags: Option<Vec<String>>,
    }
    let (host, path) = (repository.host().to_owned(), repository.path());
    let first = format!("{}/v2/{path}/tags/list", rule::base(&host));
    let mut found = Vec::new();
    let mut next = format!("{first}?n={PAGE}");
    for _ in 0..PAGES {
        let scope = (host.clone(), path.clone());
        let question = Question { url: next, accept: "application/json", scope, logins };
        let answer = oci.answer(Method::GET, &question).await?;
        let (status, headers) = (answer.response.status(), answer.response.headers().clone());
        if status != StatusCode::OK {
            let unknown = status == StatusCode::NOT_FOUND
                && (answer.known_to_it || manifest::says_unknown(&body(&host, answer.response, LARGEST_PAGE).await?));
            return if unknown {
                Ok(Fact::Absent)
            } else {
                Err(words::refusal(&host, &path, status, answer.known_to_it))
            };
        }
        let text = body(&host, answer.response, LARGEST_PAGE).await?;
        let page: Page = serde_json::from_slice(&text)
            .map_err(|_| format!("{host} answered for the tags of `{path}` with something that is no list of tags"))?;
        // What is no tag cannot be asked for by its name.
        let tags = page.tags.into_iter().flatten().filter_map(|tag| Tag::new(&tag).ok());
        found.extend(tags.map(|tag| TagSeen { tag, pushed_at: None }));
        if found.len() > MOST {
            return Err(too_many(repository));
        }
        match next_page(&first, &headers)? {
            Some(url) => next = url,
            None => return Ok(Fact::Seen(distinct(found))),
        }
    }
    Err(format!("{host} has more than {PAGES} pages of tags for `{path}`"))
}

fn too_many(repository: &Repository) -> Why {
    format!("{repository} has more than {MOST} tags; hint: let the registry delete old ones")
}

fn distinct(mut tags: Vec<TagSeen>) -> Vec<TagSeen> {
    tags.sort_by(|a, b| a.tag.cmp(&b.tag));
    tags.dedup_by(|a, b| a.tag == b.tag);
    tags
}

/// The page `Link: <…>; rel="next"` names. Credentials go nowhere but to the list they were meant for.
fn next_page(first: &str, headers: &HeaderMap) -> Result<Option<String>, Why> {
    let links = headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok());
    let is_next = |link: &&str| {
        let rel = link.split(';').skip(1).map(str::trim).find_map(|part| part.strip_prefix("rel="));
        rel.is_some_and(|rel| rel.trim_matches('"').eq_ignore_ascii_case("next"))
    };
    // A comma may stand in a query, so a link begins where `<` does.
    let mut all = links.flat_map(|value| value.split('<').skip(1));
    let Some(link) = all.find(is_next) else { return Ok(None) };
    let target = link.split('>').next().unwrap_or_default();
    let bad = || format!("a registry named a next page of tags that is not its own; the first was {first}");
    let base = Url::parse(first).map_err(|_| bad())?;
    let url = base.join(target).map_err(|_| bad())?;
    let own = url.origin() == base.origin() && url.path() == base.path() && url.username().is_empty();
    if own && url.password().is_none() { Ok(Some(url.into())) } else { Err(bad()) }
}

/// The tags at ECR, and when their images were pushed.
pub(super) async fn at_ecr(api: &EcrApi, repository: &Repository) -> Fact<Vec<TagSeen>> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES {
        let tagged = DescribeImagesFilter::builder().tag_status(TagStatus::Tagged).build();
        let call = api.client.describe_images().repository_name(repository.path()).filter(tagged).max_results(1000);
        api.take("ecr:DescribeImages").await;
        let sent = call.set_next_token(token).send().await;
        let reply = match api.judged(sent.map_err(|error| aws::classify("ecr:DescribeImages", &error))).await {
            Ok(reply) => reply,
            Err(error) if error.code() == "RepositoryNotFoundException" => return Fact::Absent,
            Err(error) => return Fact::Unreadable(error.why().to_owned()),
        };
        for image in reply.image_details() {
            let pushed = image.image_pushed_at().and_then(|it| it.to_millis().ok());
            let pushed_at = pushed.and_then(|it| Timestamp::from_millisecond(it).ok());
            let tags = image.image_tags().iter().filter_map(|tag| Tag::new(tag).ok());
            found.extend(tags.map(|tag| TagSeen { tag, pushed_at }));
        }
        if found.len() > MOST {
            return Fact::Unreadable(too_many(repository));
        }
        token = reply.next_token().map(str::to_owned);
        if token.is_none() {
            return Fact::Seen(distinct(found));
        }
    }
    Fact::Unreadable(format!("{repository} has more than {PAGES} pages of images"))
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn next(link: &str) -> Result<Option<String>, Why> {
        let mut headers = HeaderMap::new();
        headers.insert(LINK, HeaderValue::from_str(link).unwrap());
        next_page("https://reg.example/v2/team/app/tags/list", &headers)
    }

    #[test]
    fn the_next_page_is_one_of_the_same_list() {
        let wanted = "https://reg.example/v2/team/app/tags/list?last=b&n=2";
        for link in [
            r#"</v2/team/app/tags/list?last=b&n=2>; rel="next""#,
            r#"<https://reg.example/v2/team/app/tags/list?last=b&n=2>; rel=next"#,
            r#"<?last=b&n=2>;rel="next""#,
            r#"</docs>; rel="help", </v2/team/app/tags/list?last=b&n=2>; rel="next""#,
        ] {
            assert_eq!(next(link).unwrap().as_deref(), Some(wanted), "{link}");
        }
        for none in [r#"</v2/team/app/tags/list>; rel="first""#, "nonsense"] {
            assert_eq!(next(none), Ok(None), "{none}");
        }
    }

    #[test]
    fn a_page_elsewhere_is_refused() {
        for link in [
            "<https://evil.example/v2/team/app/tags/list?last=b>; rel=next",
            "<http://reg.example/v2/team/app/tags/list?last=b>; rel=next",
            "<https://reg.example:8443/v2/team/app/tags/list>; rel=next",
            "<//evil.example/v2/team/app/tags/list>; rel=next",
            "</v2/other/app/tags/list>; rel=next",
            "<https://a:b@reg.example/v2/team/app/tags/list>; rel=next",
            "<file:///etc/passwd>; rel=next",
        ] {
            assert!(next(link).is_err(), "{link}");
        }
    }
}
