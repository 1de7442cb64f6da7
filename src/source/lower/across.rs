//! What no two services may share.

use std::collections::BTreeMap;

use crate::model::desired::{PortRange, Service, Strategy};

use super::Lowered;

/// Whether two ranges share a port.
pub(super) const fn overlap(a: PortRange, b: PortRange) -> bool {
    a.first <= b.last && b.first <= a.last
}

/// One claim of one service on something that is there once.
struct Claim {
    file: usize,
    service: String,
    path: Vec<String>,
}

/// Every check between services of all files this controller acts on.
pub(super) fn check(files: &mut [Lowered<'_>]) {
    twice(files);
    acknowledged_and_there(files);
    one_of(files, "the nginx file", |service| {
        let nginx = service.nginx.iter();
        nginx.map(|nginx| (nginx.file.display().to_string(), vec!["traffic", "nginx", "file"])).collect()
    });
    one_of(files, "the hand-made container", |service| {
        let replaces = service.docker.replaces.iter();
        replaces.map(|name| (name.clone(), vec!["docker", "replaces"])).collect()
    });
    one_of(files, "the ECS service", |service| {
        let ecs = service.ecs.iter();
        ecs.flat_map(|ecs| ecs.services.values().map(|name| (format!("{}/{name}", ecs.cluster), vec!["ecs"]))).collect()
    });
    one_of(files, "the listener rule", |service| {
        service.alb.iter().map(|alb| (alb.rule.clone(), vec!["traffic", "alb", "rule"])).collect()
    });
    one_of(files, "the container name", |service| match service.rollout.strategy {
        _ if service.ecs.is_some() => Vec::new(),
        Strategy::BlueGreen => {
            ["blue", "green"].map(|colour| (format!("{}-{colour}-1", service.name), Vec::new())).into_iter().collect()
        }
        Strategy::Rolling => vec![(format!("{}-1", service.name), Vec::new())],
    });
    ports(files);
    cleaned_up(files);
}

/// A repository that is cleaned up may not be somebody else's too.
fn cleaned_up(files: &mut [Lowered<'_>]) {
    let mut found = Vec::new();
    for (file, service) in ours(files).filter(|(_, service)| service.ecr_keep.is_some()) {
        let uses = |other: &Service| {
            let sidecars = other.ecs.iter().flat_map(|ecs| ecs.containers.values()).map(|it| &it.image);
            std::iter::once(&other.image).chain(sidecars).any(|image| image.same_as(&service.image))
        };
        let other = ours(files).find(|(_, other)| other.name != service.name && uses(other));
        if let Some((_, other)) = other {
            found.push((file, service.name.to_string(), other.name.to_string(), service.image.to_string()));
        }
    }
    for (file, service, other, image) in found {
        let path = ["services", service.as_str(), "ecr"];
        files[file].report.error(&path, format!("`{other}` uses {image} too")).hint =
            Some("a repository is cleaned up only where one service alone uses it: remove `ecr`".to_owned());
    }
}

fn ours<'f>(files: &'f [Lowered<'_>]) -> impl Iterator<Item = (usize, &'f Service)> {
    let ours = files.iter().enumerate().filter(|(_, file)| file.ours);
    ours.flat_map(|(index, file)| file.services.iter().map(move |service| (index, service)))
}

/// Reports at the second claim, and names the first.
fn report(files: &mut [Lowered<'_>], first: &Claim, second: &Claim, what: &str) {
    if files[second.file].report.is_full() {
        return;
    }
    let path = |claim: &Claim| {
        let start = ["services".to_owned(), claim.service.clone()];
        start.into_iter().chain(claim.path.iter().cloned()).collect::<Vec<_>>()
    };
    let (one, two) = (path(first), path(second));
    let one: Vec<&str> = one.iter().map(String::as_str).collect();
    let two: Vec<&str> = two.iter().map(String::as_str).collect();
    let at = files[first.file].report.place(&one);
    let place = format!("{}:{}:{}", files[first.file].report.file.display(), at.line, at.column);
    files[second.file].report.error(&two, format!("{what} (the other one is at {place})"));
}

fn twice(files: &mut [Lowered<'_>]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for (file, service) in ours(files) {
        let name = service.name.to_string();
        match seen.get(&name) {
            Some(first) => found.push((*first, file, name)),
            None => {
                seen.insert(name, file);
            }
        }
    }
    for (first, second, service) in found {
        let claim = |file| Claim { file, service: service.clone(), path: Vec::new() };
        report(files, &claim(first), &claim(second), &format!("service `{service}` is in two files"));
    }
}

fn acknowledged_and_there(files: &mut [Lowered<'_>]) {
    let there: Vec<_> = ours(files).map(|(_, service)| service.name.clone()).collect();
    for file in files.iter_mut().filter(|file| file.ours) {
        let both: Vec<_> = file.acknowledged.iter().filter(|name| there.contains(name)).cloned().collect();
        for name in both {
            file.report.error(&["acknowledge"], format!("`{name}` is acknowledged as removed and still there")).hint =
                Some("remove the service from the file, or the acknowledgement".to_owned());
        }
    }
}

/// Reports each thing that two services claim.
fn one_of(files: &mut [Lowered<'_>], what: &str, claims: impl Fn(&Service) -> Vec<(String, Vec<&'static str>)>) {
    let mut seen: BTreeMap<String, Claim> = BTreeMap::new();
    let mut found = Vec::new();
    for (file, service) in ours(files) {
        for (key, path) in claims(service) {
            let path = path.into_iter().map(str::to_owned).collect();
            let claim = Claim { file, service: service.name.to_string(), path };
            match seen.remove(&key) {
                Some(first) if first.service != claim.service => found.push((key, first, claim)),
                _ => {
                    seen.insert(key, claim);
                }
            }
        }
    }
    for (key, first, second) in found {
        let what = format!("{what} {key} belongs to both `{}` and `{}`", first.service, second.service);
        report(files, &first, &second, &what);
    }
}

fn ports(files: &mut [Lowered<'_>]) {
    let mut claims: Vec<(PortRange, Claim)> = Vec::new();
    let mut found = Vec::new();
    for (file, service) in ours(files) {
        let publish = &service.docker.publish;
        let ranges = [("blue", publish.blue), ("green", publish.green), ("", publish.only)];
        for (colour, range) in ranges.into_iter().filter_map(|(colour, range)| Some((colour, range?))) {
            let mut path = vec!["docker".to_owned(), "publish".to_owned()];
            path.extend((!colour.is_empty()).then(|| colour.to_owned()));
            let claim = |path| Claim { file, service: service.name.to_string(), path };
            let other = claims.iter().find(|(other, by)| overlap(*other, range) && by.service != service.name.as_str());
            if let Some((taken, by)) = other {
                let first = Claim { file: by.file, service: by.service.clone(), path: by.path.clone() };
                found.push((first, *taken, claim(path.clone()), range));
            }
            claims.push((range, claim(path)));
        }
    }
    for (first, taken, second, range) in found {
        let what = format!("ports {range} of `{}` overlap {taken} of `{}`", second.service, first.service);
        report(files, &first, &second, &what);
    }
}
