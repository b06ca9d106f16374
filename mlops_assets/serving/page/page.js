// The page on which a person asks a model. It uses the same interface as every other caller.

const byId = (id) => document.getElementById(id);
const SHOWN = 12;
const NUMERIC = /^(u?int|float|double|half|decimal)/;
const state = { chosen: null, family: null, byKey: false };

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
}

async function call(path, options = {}) {
  const token = byId("token").value || sessionStorage.getItem("token") || "";
  const headers = { ...(options.headers ?? {}), ...(token ? { authorization: `Bearer ${token}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  if (response.status === 401) byId("token-field").hidden = false;
  else if (token) sessionStorage.setItem("token", token);
  const type = response.headers.get("content-type") ?? "";
  const body = type.includes("json") ? await response.json() : { detail: await response.text() };
  if (!response.ok) throw Object.assign(new Error(body.detail ?? response.statusText), { problem: body });
  return body;
}

function inputOf(field) {
  const common = { id: `feature-${field.name}`, name: field.name, "data-kind": field.kind };
  if (field.kind === "boolean") {
    const select = element("select", common);
    if (field.nullable) select.append(element("option", { value: "" }, "(missing)"));
    for (const value of ["true", "false"]) select.append(element("option", { value }, value));
    select.value = field.example === null ? "" : String(field.example);
    return select;
  }
  const input = element("input", common);
  if (field.kind === "category") {
    input.setAttribute("list", `values-${field.name}`);
    input.after(element("datalist"));
  } else {
    input.type = "number";
    input.step = field.kind === "integer" ? "1" : "any";
  }
  if (field.nullable) input.placeholder = "(missing)";
  input.value = field.example ?? "";
  return input;
}

function fieldOf(field) {
  const range = field.low === null ? "" : ` In training ${short(field.low)} to ${short(field.high)}.`;
  const label = element("label", { for: `feature-${field.name}` }, field.name.replaceAll("_", " "),
    element("small", {}, field.description + range));
  const row = element("div", { class: "field", "data-name": field.name }, label, inputOf(field));
  if (field.kind === "category" && field.categories.length) {
    row.append(element("datalist", { id: `values-${field.name}` },
      ...field.categories.map((value) => element("option", { value }))));
  }
  return row;
}

const short = (number) => Number(number.toPrecision(4)).toLocaleString("en-US", { maximumFractionDigits: 4 });

// Shows the form of a model. What comes late, after another was chosen, is left out: also its error.
async function choose(name) {
  state.chosen = name;
  byId("ask").disabled = true;
  try {
    const family = await call(`models/${name}`);
    if (state.chosen === name) showFamily(family);
  } catch (error) {
    if (state.chosen === name) showProblem(error);
  }
}

function showFamily(family) {
  state.family = family;
  byId("ask").disabled = false;
  byId("description").textContent = family.description;
  byId("version").textContent =
    `${family.champion.name}, ${family.champion.algorithm}, learnt until ${family.champion.learnt_until}. ` +
    family.limitations.join(" ");
  byId("inputs").replaceChildren(...family.features.map(fieldOf));
  byId("keys").replaceChildren(
    ...family.entity.map((column) => element("div", { class: "field" },
      element("label", { for: `key-${column}` }, column.replaceAll("_", " ")),
      element("input", { id: `key-${column}`, name: column }))),
    element("p", { class: "quiet" }, "The features are looked up: those that were known at the moment of prediction."));
  byId("answer").hidden = true;
  byId("problem").hidden = true;
  byId("hint").hidden = false;
  byId("filter").value = "";
}

function forgetMistakes() {
  for (const old of document.querySelectorAll(".field .wrong")) old.remove();
  for (const old of document.querySelectorAll("[aria-invalid]")) {
    old.removeAttribute("aria-invalid");
    old.removeAttribute("aria-describedby");
  }
}

function showResult() {
  const result = byId("result");
  result.classList.remove("stale");
  byId("hint").hidden = true;
  // Where it stands below the form, it would otherwise come unseen.
  if (result.getBoundingClientRect().top > innerHeight * 0.6) result.scrollIntoView();
}

function valueOf(input) {
  const text = input.value.trim();
  if (text === "") return null;
  if (input.dataset.kind === "boolean") return text === "true";
  return input.dataset.kind === "category" ? text : Number(text);
}

function request() {
  if (state.byKey) {
    const key = {};
    for (const input of byId("keys").querySelectorAll("input")) {
      const text = input.value.trim();
      key[input.name] = text !== "" && NUMERIC.test(state.family.entity_types[input.name]) ? Number(text) : text;
    }
    return { entities: [key] };
  }
  const row = {};
  for (const input of byId("inputs").querySelectorAll("input, select")) row[input.name] = valueOf(input);
  return { rows: [row] };
}

function showProblem(error) {
  byId("answer").hidden = true;
  const box = byId("problem");
  box.hidden = false;
  box.replaceChildren(
    element("h2", {}, error.problem?.title ?? "There is no answer"),
    element("p", {}, error.message.charAt(0).toUpperCase() + error.message.slice(1)));
  forgetMistakes();
  const others = [];
  for (const each of error.problem?.errors ?? []) {
    const name = each.field.split(".").pop().replace(/\[\d+\]$/, "");
    const input = byId(`feature-${name}`);
    const text = `${each.kind}, where ${each.expected} is expected`;
    if (input) {
      input.setAttribute("aria-invalid", "true");
      input.setAttribute("aria-describedby", `wrong-${name}`);
      input.closest(".field").append(element("span", { class: "wrong", id: `wrong-${name}` }, text));
    }
    others.push(element("li", {}, `${name.replaceAll("_", " ")}: ${text}`));
  }
  if (others.length) box.append(element("ul", {}, ...others));
  showResult();
}

function bar(entry, largest) {
  const width = `${(100 * Math.abs(entry.contribution)) / largest}%`;
  const filled = element("div");
  filled.style.width = width;
  const left = element("div", { class: "side left" });
  const right = element("div", { class: "side right" });
  (entry.contribution < 0 ? left : right).append(filled);
  const number = element("span", {}, (entry.contribution > 0 ? "+" : "") + entry.contribution.toFixed(3));
  const shown = entry.value === null ? "(missing)" : typeof entry.value === "number" ? short(entry.value) : String(entry.value);
  return element("tr", {},
    element("td", {}, entry.feature.replaceAll("_", " ")),
    element("td", {}, shown),
    element("td", {}, element("div", { class: "effect" }, left, right, number)));
}

function showBars(explanation, all) {
  const entries = explanation.contributions;
  const largest = Math.max(...entries.map((entry) => Math.abs(entry.contribution)), 1e-12);
  const shown = all ? entries : entries.slice(0, SHOWN);
  document.querySelector("#bars tbody").replaceChildren(...shown.map((entry) => bar(entry, largest)));
  const more = byId("more");
  more.hidden = entries.length <= SHOWN;
  more.textContent = all ? "Show fewer" : `Show all ${entries.length} features`;
  more.onclick = () => showBars(explanation, !all);
}

function showAnswer(body) {
  const [prediction] = body.predictions;
  byId("problem").hidden = true;
  byId("answer").hidden = false;
  forgetMistakes();
  const gauge = byId("gauge");
  gauge.hidden = prediction.probability === undefined;
  let meaning = "";
  if (prediction.probability !== undefined) {
    byId("headline").textContent = `${(100 * prediction.probability).toFixed(1)} %`;
    byId("needle").style.width = `${100 * prediction.probability}%`;
    const threshold = state.family.champion.threshold;
    byId("threshold").hidden = threshold === null;
    if (threshold !== null) byId("threshold").style.left = `${100 * threshold}%`;
    meaning = prediction.yes === undefined ? "" : `The answer is ${prediction.yes ? "yes" : "no"}: from ${(100 * threshold).toFixed(1)} % on it is yes`;
  } else if (prediction.class !== undefined) {
    byId("headline").textContent = prediction.class;
    meaning = Object.entries(prediction.probabilities).map(([name, p]) => `${name} ${(100 * p).toFixed(1)} %`).join(", ");
  } else {
    byId("headline").textContent = short(prediction.value);
    meaning = Object.entries(prediction.quantiles).map(([name, value]) => `${name} ${short(value)}`).join(", ");
  }
  byId("meaning").textContent = `${meaning ? `${meaning}. ` : ""}Answered by ${body.model}.`;
  byId("warnings").replaceChildren(...body.warnings.map((text) => element("li", {}, text)));
  byId("prediction").textContent = prediction.id;
  const explanation = prediction.explanation;
  byId("explanation").hidden = explanation === undefined;
  if (explanation !== undefined) {
    byId("why").textContent =
      `Without knowing anything the model says ${short(explanation.expected)} (${explanation.of}); ` +
      `the features move that to ${short(explanation.score)}.`;
    showBars(explanation, false);
  }
  showResult();
}

function askBy(byKey) {
  state.byKey = byKey;
  byId("by-key").setAttribute("aria-selected", String(byKey));
  byId("by-features").setAttribute("aria-selected", String(!byKey));
  byId("keys").hidden = !byKey;
  byId("fields").hidden = byKey;
}

async function start() {
  const { models } = await call("models");
  const select = byId("family");
  select.replaceChildren(...models.map((model) => element("option", { value: model.name }, model.name)));
  if (!models.length) throw new Error("No model is deployed yet: materialise a champion, then load this page again.");
  select.value = sessionStorage.getItem("family") ?? models[0].name;
  if (!select.value) select.value = models[0].name;
  await choose(select.value);
}

byId("family").addEventListener("change", (event) => {
  sessionStorage.setItem("family", event.target.value);
  choose(event.target.value);
});
byId("by-key").addEventListener("click", () => askBy(true));
byId("by-features").addEventListener("click", () => askBy(false));
byId("token-field").addEventListener("submit", (event) => {
  event.preventDefault();
  start().catch(showProblem);
});
byId("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  for (const field of byId("inputs").children) field.hidden = !field.textContent.toLowerCase().includes(words);
});
byId("form").addEventListener("input", (event) => {
  if (event.target !== byId("filter")) byId("result").classList.add("stale");
});
byId("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const asked = state.family;
  byId("ask").disabled = true;
  try {
    const body = await call(`models/${asked.name}/predict?explain=${asked.serving.explain}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(request()),
    });
    if (state.chosen === asked.name) showAnswer(body);
  } catch (error) {
    if (state.chosen === asked.name) showProblem(error);
  } finally {
    if (state.chosen === asked.name) byId("ask").disabled = false;
  }
});
start().catch(showProblem);
