"use strict";
(() => {
  const at = (id) => document.getElementById(id);
  // Text goes in as text nodes only: nothing from a file, a log or a container is ever read as markup.
  const make = (name, text, className) => {
    const element = document.createElement(name);
    if (text !== undefined && text !== null) element.textContent = text;
    if (className) element.className = className;
    return element;
  };
  const word = (text) => String(text).replace(/[^A-Za-z]/g, "");
  const cell = (...children) => {
    const td = make("td");
    for (const child of children) td.append(child);
    return td;
  };
  const version = (it) => make("span", it && it.tag ? it.tag : "–", "tag");

  const row = (service) => {
    const tr = make("tr");
    const colours = Object.entries(service.colours).map(([name, it]) => {
      const share = it.weight > 0 ? ` · ${it.weight} %` : "";
      const shown = it.desired > 0 || it.running > 0;
      return shown ? make("span", `${it.healthy}/${it.desired} ${name}${share}`, `colour ${word(name)}`) : "";
    });
    const why = service.holds.map((hold) => {
      const line = make("span", null, "hold");
      line.append(make("b", hold.reason), ` ${hold.message}`);
      return line;
    });
    if (why.length === 0) why.push(make("span", service.stage, "dim"));
    tr.append(
      cell(service.name),
      cell(make("span", service.phase, `phase ${word(service.phase)}`)),
      cell(version(service.desired)),
      cell(version(service.serving)),
      cell(...colours),
      cell(...why),
    );
    return tr;
  };

  const short = (revision) => revision.replace("sha256:", "").slice(0, 12);
  const span = (seconds) => {
    const [size, unit] = [[172800, 86400, "d"], [7200, 3600, "h"], [120, 60, "m"]].reduce(
      (found, [from, size, unit]) => found || (seconds >= from ? [size, unit] : null), null) || [1, "s"];
    return `${Math.max(0, Math.floor(seconds / size))} ${unit} ago`;
  };
  // What is in force, and below it where that is from.
  const source = ({ revision, age, from, commit, checked }) => {
    const first = make("span", null, "line");
    if (commit) {
      const made = span((Date.now() - new Date(commit.at)) / 1000);
      const subject = make("b", commit.subject.slice(0, 120));
      first.append(make("span", short(commit.id), "tag"), " ", subject, ` by ${commit.author}, ${made}`);
    } else if (revision) {
      first.append("revision ", make("span", short(revision), "tag"), `, read ${span(age)}`);
    } else {
      first.append("no desired state yet");
    }
    const seen = !commit || typeof checked !== "number" ? "" : `, checked ${span(checked)}`;
    return [first, make("span", `${from}${seen}`, "line")];
  };

  const show = (status) => {
    at("controller").textContent = status.controller;
    at("source").replaceChildren(...source(status.source));
    const { revision, rejected, error } = status.source;
    const what = rejected ? `The newest edit (${short(rejected)}) is rejected` : "The source cannot be read";
    at("error").hidden = !error;
    at("error").textContent = error ? `${what}${revision ? "; the last good one stays" : ""}.\n${error}` : "";
    const rows = status.services.map(row);
    if (rows.length === 0) {
      const none = make("td", "no service yet", "dim");
      none.colSpan = 6;
      const tr = make("tr");
      tr.append(none);
      rows.push(tr);
    }
    at("services").replaceChildren(...rows);
  };

  let asked = false;
  let again = false;
  const refresh = async () => {
    if (asked) { again = true; return; }
    asked = true;
    try {
      const response = await fetch("/api/v1/services");
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      show(await response.json());
    } catch (failure) {
      at("source").textContent = `the controller does not answer (${failure.message})`;
    } finally {
      asked = false;
      if (again) { again = false; refresh(); }
    }
  };

  const seen = new Set();
  const log = (event) => {
    if (seen.has(event.id)) return;
    seen.add(event.id);
    const box = at("log");
    const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
    const line = make("li", null, word(event.kind));
    const time = make("time", new Date(event.at).toLocaleTimeString());
    time.dateTime = event.at;
    line.append(time, make("b", event.service || "holdfast"), event.message);
    if (event.because) line.append(make("span", `  because ${event.because}`, "because"));
    box.append(line);
    while (box.childElementCount > 500) box.firstElementChild.remove();
    if (follows) box.scrollTop = box.scrollHeight;
  };

  const start = async () => {
    let last = 0;
    try {
      const past = await (await fetch("/api/v1/events?limit=100")).json();
      past.forEach(log);
      if (past.length > 0) last = past[past.length - 1].id;
    } catch (_) { /* the stream tells when it is back */ }
    const stream = new EventSource(`/api/v1/events/stream?after=${last}`);
    stream.onopen = refresh;
    stream.onmessage = (message) => log(JSON.parse(message.data));
    stream.addEventListener("status", refresh);
    stream.onerror = () => { at("source").textContent = "connection lost, trying again …"; };
  };
  refresh();
  start();
  setInterval(refresh, 10000);
})();
