//! Setting keys in a file of the desired state: which file, is the result right, then in its place at once.

use std::path::{Path, PathBuf};

use crate::model::desired::{DesiredState, Service, SourceRevision};
use crate::model::names::ServiceName;
use crate::ports::{Clock as _, WallClock};
use crate::source::edit::EditError;
use crate::source::settings::Settings;
use crate::source::{self, FileText, SourceError};

use super::failure::Failure;

/// What an edit did.
pub(crate) struct Edited {
    /// The file that holds the service.
    pub(crate) file: PathBuf,
    /// Key, before, after; what was so already is left out.
    pub(crate) changes: Vec<(String, Option<String>, Option<String>)>,
}

/// Sets keys of `service` in the file at `path`, or in the file of the folder `path` that has it.
///
/// # Errors
/// When no file has the service, or the result would be wrong: nothing is written then.
pub(crate) fn set(
    path: &Path,
    service: &ServiceName,
    changes: &[(String, String)],
    settings: &Settings,
) -> Result<Edited, Failure> {
    let (file, text) = file_of(path, service)?;
    let what = || format!("could not set {service} in {}", file.display());
    let edited = source::edit::set(&text, service.as_str(), changes)
        .map_err(|error| Failure::from_words(what(), &error.to_string()))?;
    let (before, after) = (parsed(&file, &text, settings), parsed(&file, &edited, settings));
    // A file that was wrong before may be put right one key at a time.
    if let (Ok(_), Err(errors)) = (&before, &after) {
        return Err(Failure::from_words(
            format!("{}, so it is left as it was", what()),
            &source::error::in_words(errors),
        ));
    }
    let old = |key: &str| before.as_ref().ok().and_then(|state| shown(state.services.get(service)?, key));
    let changes = changes
        .iter()
        .filter(|_| edited != text)
        .map(|(key, value)| (key.clone(), old(key), Some(value.clone()).filter(|value| !value.is_empty())))
        .filter(|(_, old, new)| old.is_none() || old != new)
        .collect();
    if edited != text {
        replace(&file, &edited).map_err(|error| Failure::new(what()).because(error))?;
    }
    Ok(Edited { file, changes })
}

fn parsed(file: &Path, text: &str, settings: &Settings) -> Result<DesiredState, Vec<SourceError>> {
    let files = [FileText { path: file.to_owned(), text: text.to_owned() }];
    source::parse(file, &files, &settings.rules(), &SourceRevision(String::new()), WallClock.now())
}

/// The old value of the keys people change, for the commit message.
fn shown(service: &Service, key: &str) -> Option<String> {
    match key {
        "tag" => Some(service.tag.to_string()),
        "replicas" => Some(service.replicas.to_string()),
        "activeColour" | "activeColor" => {
            Some(service.active_colour.map_or_else(|| "auto".to_owned(), |colour| colour.to_string()))
        }
        _ => None,
    }
}

/// The files to edit: `path` where it is given, else the folder of `holdfast.yaml`.
///
/// # Errors
/// When the desired state is in git: the folder of `holdfast.yaml` is not what runs then.
pub(crate) fn place<'a>(path: Option<&'a Path>, settings: &'a Settings) -> Result<&'a Path, Failure> {
    match (path, &settings.git) {
        (Some(path), _) => Ok(path),
        (None, None) => Ok(&settings.source),
        (None, Some(git)) => {
            let folder = if git.path.is_empty() { "." } else { &git.path };
            let url = crate::git::names::without_password(&git.url);
            Err(Failure::new(format!("the desired state is in git, on the branch {} of {url}", git.branch))
                .because("a checkout of it can be edited, and none is named")
                .try_this(format!("in a checkout add `--path {folder} --commit --push`")))
        }
    }
}

/// The file that has `service`, and its text.
///
/// # Errors
/// When none has, or one cannot be read.
pub(crate) fn file_of(path: &Path, service: &ServiceName) -> Result<(PathBuf, String), Failure> {
    let unreadable = |path: &Path, error| Failure::new(format!("could not read {}", path.display())).because(error);
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let yaml = |path: &PathBuf| path.extension().is_some_and(|it| it == "yaml" || it == "yml");
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(path, error))?;
        files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(yaml).collect();
        files.sort();
    }
    let (mut why, mut headline) = (Vec::new(), format!("no file in {} has the service {service}", path.display()));
    for file in files {
        let text = std::fs::read_to_string(&file).map_err(|error| unreadable(&file, error))?;
        match source::edit::set(&text, service.as_str(), &[]) {
            Ok(_) => return Ok((file, text)),
            Err(error) => {
                // It may well have the service: nobody can tell.
                if !matches!(error, EditError::NoService { .. }) {
                    headline = format!("{} is not valid as it is, so {service} cannot be edited", file.display());
                }
                why.push(format!("{}: {error}", file.display()));
            }
        }
    }
    Err(Failure::from_words(headline, &why.join("\n")))
}

/// Beside it first, then in its place: a reader sees the old file or the new one, and its mode stays.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    // Through a link, so that the link stays.
    let file = file.canonicalize()?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let beside = file.with_file_name(format!(".{name}.holdfast"));
    std::fs::write(&beside, text)?;
    std::fs::set_permissions(&beside, std::fs::metadata(&file)?.permissions())?;
    std::fs::rename(&beside, &file)
}
