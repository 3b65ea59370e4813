// docs.js: renders /api/openapi.json as a page for people. Everything from the description is set as text, never as HTML.

const METHODS = ["get", "post", "patch", "put", "delete"];
const DEPTH_MAX = 3;

/** An element with attributes and children; null and false children are left out. */
function element(name, attributes = {}, ...children) {
  const result = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== false) result.setAttribute(key, value === true ? "" : value);
  }
  result.append(...children.flat().filter((child) => child !== null && child !== false && child !== undefined));
  return result;
}

/** Follows "#/components/…". */
function resolve(description, node) {
  if (!node || !node.$ref) return node;
  return node.$ref.slice(2).split("/").reduce((at, key) => at?.[key], description);
}

/** A schema without its null, and whether null was there. */
function withoutNull(schema) {
  if (Array.isArray(schema.type)) {
    return { schema: { ...schema, type: schema.type.filter((type) => type !== "null")[0] }, isNullable: schema.type.includes("null") };
  }
  if (schema.anyOf) {
    return { schema: schema.anyOf.find((one) => one.type !== "null"), isNullable: schema.anyOf.some((one) => one.type === "null") };
  }
  return { schema, isNullable: false };
}

function typeName(schema) {
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.$ref) return "object";
  if (schema.type === "array") return `list of ${schema.items.$ref ? "objects" : schema.items.type + "s"}`;
  if (schema.format === "date-time") return "time";
  return schema.type ?? "any";
}

function range(from, to, unit) {
  if (from === undefined && to === undefined) return null;
  if (from === undefined || (unit && !from)) return `at most ${to}${unit}`;
  if (to === undefined) return `at least ${from}${unit}`;
  return from === to ? `exactly ${to}${unit}` : `${from} to ${to}${unit}`;
}

/** What a value must keep to, in words. */
function rules(schema, isNullable) {
  if (schema.description?.startsWith("The same as ")) return schema.description.replace("The same as", "the same as").replace(/\.$/, "");
  const parts = [
    range(schema.minLength, schema.maxLength, " characters"),
    range(schema.minimum, schema.maximum, ""),
    range(schema.minItems, schema.maxItems, " items"),
    isNullable ? "or null" : null,
    schema.description ?? null,
  ];
  return parts.filter((part) => part !== null).join("; ");
}

/** A path that may be broken after each slash. */
function breakable(path) {
  return path.split(/(?<=.)(?=\/)/).flatMap((part, index) => (index === 0 ? [part] : [element("wbr"), part]));
}

function headings(...texts) {
  return element("thead", {}, element("tr", {}, texts.map((text) => element("th", { scope: "col" }, text))));
}

function scrollable(name, table) {
  return element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": name }, table);
}

/** Rows of a schema's properties, nested objects below their name. presence: what to say of (required, not required). */
function propertyRows(description, schema, presence, depth) {
  const rows = [];
  for (const [name, declared] of Object.entries(schema.properties ?? {})) {
    const { schema: value, isNullable } = withoutNull(declared);
    const isRequired = (schema.required ?? []).includes(name);
    rows.push(element("tr", {},
      element("td", { class: `name depth${depth}` }, name),
      element("td", {}, typeName(value)),
      element("td", { class: "rule" }, rules(value, isNullable)),
      element("td", { class: "presence" }, presence[isRequired ? 0 : 1])));
    const inner = resolve(description, value.type === "array" ? value.items : value);
    if (inner?.properties && depth < DEPTH_MAX) rows.push(...propertyRows(description, inner, presence, depth + 1));
  }
  return rows;
}

function schemaTable(description, schema, name, presence) {
  const rows = propertyRows(description, schema, presence, 0);
  if (rows.length === 0) return element("p", { class: "rule" }, "No fixed fields.");
  return scrollable(name, element("table", {}, headings("Field", "Type", "Rule", "Presence"), element("tbody", {}, rows)));
}

function parameterTable(parameters) {
  return scrollable("Parameters", element("table", {}, headings("Name", "In", "Type", "Rule", "Presence"),
    element("tbody", {}, parameters.map((parameter) => element("tr", {},
      element("td", { class: "name" }, parameter.name),
      element("td", {}, parameter.in),
      element("td", {}, typeName(parameter.schema)),
      element("td", { class: "rule" }, rules(parameter.schema, false)),
      element("td", { class: "presence" }, parameter.required ? "required" : "optional"))))));
}

// --- examples ---

function exampleValue(name, schema) {
  const examples = { email: "test@bore.com", name: "Test", password: "test123", region: "local", plan: "trial", local_port: 8080, port: 7835 };
  if (name in examples) return examples[name];
  if (schema.type === "integer" || schema.type === "number") return Math.max(schema.minimum ?? 0, 0);
  return schema.type === "boolean" ? true : "…";
}

function exampleBody(schema) {
  const body = {};
  for (const name of schema.required ?? []) body[name] = exampleValue(name, withoutNull(schema.properties[name]).schema);
  return body;
}

function exampleCommand(description, method, path, operation) {
  const parts = [`curl${method === "get" ? "" : ` -X ${method.toUpperCase()}`} ${location.origin}${path}`];
  const schemes = (operation.security ?? []).map((one) => Object.keys(one)[0]);
  if (schemes.includes("bearer")) parts.push(`-H "Authorization: Bearer $TOKEN"`);
  if (schemes.includes("internalKey")) parts.push(`-H "X-Internal-API-Key: $INTERNAL_API_KEY"`);
  const content = operation.requestBody?.content?.["application/json"];
  const body = content ? exampleBody(resolve(description, content.schema)) : {};
  if (Object.keys(body).length > 0) {
    parts.push(`-H "Content-Type: application/json"`, `-d '${JSON.stringify(body)}'`);
  }
  return parts.join(" \\\n  ");
}

function exampleBlock(text) {
  const button = element("button", { class: "copy", type: "button" }, "Copy");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      button.textContent = "Select it by hand";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return element("div", { class: "example" }, element("pre", { tabindex: "0" }, element("code", {}, text)), button);
}

// --- operations ---

function whoMayCall(operation) {
  const schemes = (operation.security ?? []).map((one) => Object.keys(one)[0]);
  if (schemes.length === 0) return "anybody";
  if (schemes.includes("internalKey")) return "bore-servers";
  return operation.description?.includes("admins") ? "admins" : "signed in";
}

function responseList(description, operation) {
  return element("ul", { class: "responses" }, Object.entries(operation.responses).map(([status, response]) =>
    element("li", {}, element("span", { class: "code" }, status), element("span", { class: "rule" }, resolve(description, response).description))));
}

function successSchema(description, operation) {
  const status = Object.keys(operation.responses).find((code) => code.startsWith("2"));
  const content = resolve(description, operation.responses[status])?.content?.["application/json"];
  return content ? resolve(description, content.schema) : null;
}

function operationInside(description, method, path, operation) {
  const content = operation.requestBody?.content?.["application/json"];
  const success = successSchema(description, operation);
  return element("div", { class: "inside" },
    operation.parameters ? [element("h3", {}, "Parameters"), parameterTable(operation.parameters)] : null,
    content ? [element("h3", {}, operation.requestBody.required ? "Body" : "Body, optional"),
      schemaTable(description, resolve(description, content.schema), "Body", ["required", "optional"])] : null,
    success ? [element("h3", {}, "Answer"), schemaTable(description, success, "Answer", ["always", "may be missing"])] : null,
    element("h3", {}, "Statuses"), responseList(description, operation),
    element("h3", {}, "Example"), exampleBlock(exampleCommand(description, method, path, operation)));
}

/** A card that fills itself when it is first opened. */
function operationCard(description, method, path, operation) {
  const card = element("details", { class: "operation", id: operation.operationId },
    element("summary", {},
      element("span", { class: `method ${method}` }, method.toUpperCase()),
      element("span", { class: "path" }, breakable(path)),
      element("span", { class: "who" }, whoMayCall(operation)),
      element("span", { class: "summary" }, operation.summary)));
  card.addEventListener("toggle", () => {
    if (card.open && card.childElementCount === 1) card.append(operationInside(description, method, path, operation));
  });
  return card;
}

function allOperations(description) {
  return Object.entries(description.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
}

function accessList(description) {
  const schemes = description.components.securitySchemes;
  const rows = [
    ["Bearer", `Authorization: Bearer <token>. ${schemes.bearer.description}`],
    ["Cookie", `${schemes.cookie.name}. ${schemes.cookie.description}`],
    ["Bore-servers", `${schemes.internalKey.name}. ${schemes.internalKey.description}`],
  ];
  return element("ul", { class: "access" }, rows.map(([name, text]) => element("li", {}, element("strong", {}, name), " ", text)));
}

function render(description) {
  document.getElementById("version").textContent = description.info.version;
  document.getElementById("description").textContent = description.info.description;
  const operations = document.getElementById("operations");
  const contents = document.getElementById("contents");
  operations.replaceChildren(element("h2", {}, "Who may call"), accessList(description));
  const entries = allOperations(description);
  for (const { name } of description.tags) {
    const own = entries.filter(({ operation }) => operation.tags.includes(name));
    operations.append(element("section", { "aria-label": name }, element("h2", {}, name),
      own.map(({ method, path, operation }) => operationCard(description, method, path, operation))));
    contents.append(element("section", {}, element("h2", {}, name), element("ul", {}, own.map(({ method, path, operation }) =>
      element("li", {}, element("a", { href: `#${operation.operationId}` },
        element("span", { class: `method ${method}` }, method.toUpperCase()), element("span", {}, breakable(path.replace(/^\/api/, "")))))))));
  }
}

// --- finding ---

function applyFilter(text) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  for (const card of document.querySelectorAll("details.operation")) {
    const own = `${card.id} ${card.firstElementChild.textContent}`.toLowerCase();
    const isShown = words.every((word) => own.includes(word));
    card.hidden = !isShown;
    const link = document.querySelector(`nav a[href="#${CSS.escape(card.id)}"]`) ?? document.querySelector(`nav a[href="#${card.id}"]`);
    if (link) link.parentElement.hidden = !isShown;
  }
  for (const section of document.querySelectorAll("#operations section, #contents section")) {
    section.hidden = !section.querySelector("details.operation:not([hidden]), li:not([hidden])");
  }
}

function openNamed() {
  const card = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!(card instanceof HTMLDetailsElement)) return;
  card.open = true;
  card.scrollIntoView();
}

async function start() {
  try {
    const response = await fetch("/api/openapi.json");
    if (!response.ok) throw new Error(`the answer was ${response.status}`);
    render(await response.json());
  } catch (error) {
    document.getElementById("operations").replaceChildren(
      element("p", { class: "problem", role: "alert" }, `The description could not be loaded: ${error.message}. Reload the page to try again.`));
    return;
  }
  document.getElementById("filter").addEventListener("input", (event) => applyFilter(event.target.value));
  window.addEventListener("hashchange", openNamed);
  openNamed();
}

start();
