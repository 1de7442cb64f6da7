//! GitLab's words: commit statuses and deployments.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::api::{Api, Ask, Trouble};
use super::verdict::{State, Told};
use crate::model::words::shortened;

/// GitLab refuses longer descriptions.
const DESCRIPTION: usize = 255;

/// A project on GitLab.
#[derive(Debug)]
pub(super) struct GitLab {
    pub(super) api: Api,
    /// Its path, with slashes.
    pub(super) project: String,
    /// Whose word it is: `holdfast/CONTROLLER`.
    pub(super) name: String,
    /// The branch the commits are on: without it GitLab picks one.
    pub(super) branch: String,
    pub(super) environment: String,
}

impl GitLab {
    pub(super) async fn status(&self, told: &Told) -> Result<(), Trouble> {
        let body = json!({
            "state": state(told.state),
            "name": self.name,
            "ref": self.branch,
            "description": shortened(&told.description, DESCRIPTION),
        });
        let answer = self.ask(Method::POST, &["statuses", &told.commit], &[], Some(body)).await;
        match answer {
            // Under way it is already; GitLab takes the same state no second time.
            Err(trouble) if told.state == State::Pending && is_transition(&trouble) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    /// Tells the deployment `known`, else the one found there, else a new one; returns which it was.
    pub(super) async fn deployment(&self, told: &Told, known: Option<u64>) -> Result<Option<u64>, Trouble> {
        let found = match known {
            Some(id) => Some(id),
            None => self.find(told).await?,
        };
        let Some(id) = found else {
            // What never began needs no end.
            return if told.state == State::Superseded { Ok(None) } else { self.create(told).await.map(Some) };
        };
        let body = json!({"status": state(told.state)});
        match self.ask(Method::PUT, &["deployments", &id.to_string()], &[], Some(body)).await {
            // It is so already, or it is over and does not begin again.
            Err(trouble) if is_transition(&trouble) => Ok(Some(id)),
            other => other.map(|_| Some(id)),
        }
    }

    /// Made before a restart, or by a request whose answer was lost.
    async fn find(&self, told: &Told) -> Result<Option<u64>, Trouble> {
        let query =
            [("environment", self.environment.as_str()), ("order_by", "id"), ("sort", "desc"), ("per_page", "50")];
        let all = self.ask(Method::GET, &["deployments"], &query, None).await?;
        let ours = |it: &&Value| it["sha"] == told.commit.as_str();
        Ok(all.as_array().and_then(|all| all.iter().find(ours)).and_then(|it| it["id"].as_u64()))
    }

    async fn create(&self, told: &Told) -> Result<u64, Trouble> {
        let body = json!({
            "environment": self.environment,
            "sha": told.commit,
            "ref": self.branch,
            "tag": false,
            "status": state(told.state),
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
        let path = ["projects", self.project.as_str()].into_iter().chain(path.iter().copied()).collect();
        self.api.ask(Ask { method, path, query: query.to_vec(), body }).await
    }
}

/// Never `pending`: there is no way back to it from `running`.
const fn state(state: State) -> &'static str {
    match state {
        State::Pending => "running",
        State::Success => "success",
        State::Failure | State::Rejected => "failed",
        State::Superseded => "canceled",
    }
}

/// `Cannot transition status via :run from :running (…)`.
fn is_transition(trouble: &Trouble) -> bool {
    matches!(trouble, Trouble::Refused { status: StatusCode::BAD_REQUEST, why }
        if why.to_ascii_lowercase().contains("cannot transition"))
}
