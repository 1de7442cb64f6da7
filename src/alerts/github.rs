//! GitHub's words: commit statuses and deployments.

use reqwest::Method;
use serde_json::{Value, json};

use super::api::{Api, Ask, Trouble};
use super::verdict::{State, Told};
use crate::model::words::shortened;

/// GitHub refuses longer descriptions.
const DESCRIPTION: usize = 140;

/// A repository on GitHub.
#[derive(Debug)]
pub(super) struct GitHub {
    pub(super) api: Api,
    /// `owner/name`.
    pub(super) repository: String,
    /// Whose word it is: `holdfast/CONTROLLER`.
    pub(super) context: String,
    pub(super) environment: String,
}

impl GitHub {
    pub(super) async fn status(&self, told: &Told) -> Result<(), Trouble> {
        let state = match told.state {
            State::Pending => "pending",
            State::Success => "success",
            State::Failure | State::Rejected => "failure",
            // GitHub has no word for it; a failure it was not, and that it serves would be a lie.
            State::Superseded => "error",
        };
        let body = json!({
            "state": state,
            "context": self.context,
            "description": shortened(&told.description, DESCRIPTION),
        });
        self.ask(Method::POST, &["statuses", &told.commit], &[], Some(body)).await.map(|_| ())
    }

    /// Tells the deployment `known`, else the one found there, else a new one; returns which it was.
    pub(super) async fn deployment(&self, told: &Told, known: Option<u64>) -> Result<Option<u64>, Trouble> {
        let found = match known {
            Some(id) => Some(id),
            None => self.find(told).await?,
        };
        let id = match found {
            Some(id) => id,
            // What never began needs no end.
            None if told.state == State::Superseded => return Ok(None),
            None => self.create(told).await?,
        };
        let state = match told.state {
            State::Pending => "in_progress",
            State::Success => "success",
            State::Failure | State::Rejected => "failure",
            State::Superseded => "inactive",
        };
        let body = json!({
            "state": state,
            "description": shortened(&told.description, DESCRIPTION),
            "environment": self.environment,
            "auto_inactive": true,
        });
        self.ask(Method::POST, &["deployments", &id.to_string(), "statuses"], &[], Some(body)).await?;
        Ok(Some(id))
    }

    /// Made before a restart, or by a request whose answer was lost.
    async fn find(&self, told: &Told) -> Result<Option<u64>, Trouble> {
        let query = [("sha", told.commit.as_str()), ("environment", &self.environment), ("per_page", "100")];
        let all = self.ask(Method::GET, &["deployments"], &query, None).await?;
        // Workflows deploy too: ours carry our name.
        let ours = |it: &&Value| it["description"] == self.context.as_str();
        Ok(all.as_array().and_then(|all| all.iter().find(ours)).and_then(|it| it["id"].as_u64()))
    }

    async fn create(&self, told: &Told) -> Result<u64, Trouble> {
        let body = json!({
            "ref": told.commit,
            "environment": self.environment,
            "description": self.context,
            // It is deployed already: nothing is merged for it, nothing else has to be green.
            "auto_merge": false,
            "required_contexts": [],
        });
        let made = self.ask(Method::POST, &["deployments"], &[], Some(body)).await?;
        let nothing = || Trouble::Later { why: "it made a deployment without an id".to_owned(), after: None };
        made["id"].as_u64().ok_or_else(nothing)
    }

    async fn ask(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<Value>,
    ) -> Result<Value, Trouble> {
        let path = std::iter::once("repos").chain(self.repository.split('/')).chain(path.iter().copied()).collect();
        self.api.ask(Ask { method, path, query: query.to_vec(), body }).await
    }
}
