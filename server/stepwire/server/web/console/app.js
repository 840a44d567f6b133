// The shell: routes, navigation, theme, sign-in, the state of the connection.

import { caller, learn, may } from "./access.js";
import { connection, setToken, token } from "./api.js";
import { dialog, h, show } from "./dom.js";
import { runPage } from "./views/run.js";
import { runsPage } from "./views/runs.js";
import { schedulePage, schedulesPage } from "./views/schedules.js";
import { serverPage } from "./views/server.js";
import { workflowPage, workflowsPage } from "./views/workflows.js";

const PAGES = [
  ["/runs", "Runs"],
  ["/workflows", "Workflows"],
  ["/schedules", "Schedules"],
  ["/server", "Server"],
];
const ROUTES = [
  [/^\/(?:runs)?\/?$/, runsPage],
  [/^\/runs\/([^/]+)\/?$/, runPage],
  [/^\/workflows\/?$/, workflowsPage],
  [/^\/workflows\/([^/]+)\/?$/, workflowPage],
  [/^\/schedules\/?$/, schedulesPage],
  [/^\/schedules\/([^/]+)\/?$/, schedulePage],
  [/^\/server\/?$/, serverPage],
];

const main = document.getElementById("main");
let leaving = null;

/** Show the page of the address bar. A page gets its place, its parameters and a signal that says when it is left. */
function route() {
  leaving?.abort();
  leaving = new AbortController();
  const path = location.pathname;
  for (const [pattern, page] of ROUTES) {
    const match = pattern.exec(path);
    if (match) {
      for (const link of document.querySelectorAll("#nav a")) {
        const here = path.startsWith(link.getAttribute("href")) || (path === "/" && link.getAttribute("href") === "/runs");
        if (here) link.setAttribute("aria-current", "page");
        else link.removeAttribute("aria-current");
      }
      show(main);
      const [name, what] = match.slice(1).map(decodeURIComponent).concat(PAGES.find(([start]) => path.startsWith(start))?.[1] ?? "Runs");
      document.title = [name, what, "Stepwire"].filter(Boolean).join(" · ");
      page(main, match.slice(1).map(decodeURIComponent), leaving.signal);
      return;
    }
  }
  show(main, h("div", { class: "empty" }, h("h1", null, "There is no such page"), h("p", null, h("a", { href: "/runs" }, "All runs"))));
}

/** Go to a page without loading the document again. */
export function go(address, replace = false) {
  history[replace ? "replaceState" : "pushState"](null, "", address);
  route();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='/']");
  if (!link || link.target || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
  event.preventDefault();
  go(link.getAttribute("href"));
  scrollTo(0, 0);
  main.focus({ preventScroll: true });
});
addEventListener("popstate", route);
// A browser keeps the page that is left, with its streams, to go back to: six of them would take all connections.
addEventListener("pagehide", () => leaving?.abort());
addEventListener("pageshow", (event) => { if (event.persisted) route(); });
addEventListener("stepwire-go", (event) => go(event.detail.address, event.detail.replace));

show(document.getElementById("nav"), PAGES.map(([address, name]) => h("a", { href: address }, name)));

// Theme: the system's, unless the reader chose one.
const themes = ["system", "light", "dark"];
const themeButton = document.getElementById("theme");
function applyTheme() {
  const chosen = localStorage.getItem("stepwire-theme") ?? "system";
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  themeButton.textContent = { system: "◐ System", light: "☀ Light", dark: "☾ Dark" }[chosen];
  themeButton.setAttribute("aria-label", `Theme: ${chosen}. Change it`);
}
themeButton.addEventListener("click", () => {
  const chosen = localStorage.getItem("stepwire-theme") ?? "system";
  localStorage.setItem("stepwire-theme", themes[(themes.indexOf(chosen) + 1) % themes.length]);
  applyTheme();
});
applyTheme();

// The connection: say so when the server does not answer; pages try again by themselves.
const state = document.getElementById("connection");
connection.addEventListener("change", () => {
  state.textContent = connection.up ? "" : "⚠ No connection: trying again";
});

// Sign-in, when the server wants a credential.
const sign = document.getElementById("sign");
sign.hidden = !token();
sign.addEventListener("click", () => {
  setToken("");
  location.reload();
});
let asking = false;
addEventListener("stepwire-unauthenticated", () => {
  if (asking) return;
  asking = true;
  const input = h("input", { type: "password", autocomplete: "off", required: true, id: "token" });
  const box = dialog(
    "Sign in",
    h(
      "form",
      {
        method: "dialog",
        onsubmit: () => {
          setToken(input.value.trim());
          location.reload();
        },
      },
      h("p", null, token() ? "This credential is not accepted." : "This server wants a credential."),
      h("label", { for: "token" }, "API key or token"),
      input,
      h("p", { class: "quiet" }, "It is kept for this tab only."),
      h("footer", null, h("button", { class: "primary" }, "Sign in")),
    ),
  );
  box.addEventListener("close", () => { asking = false; });
});

// Who the caller is: pages offer only what it may do.
await learn();
if (caller.scopes && caller.principal !== "anonymous") {
  const role = may("write") ? "" : may("answer") ? " · may answer" : " · read only";
  const who = document.getElementById("who");
  who.textContent = `${caller.principal} · ${caller.namespaces.join(", ")}${role}`;
  who.title = `Scopes: ${caller.scopes.join(", ") || "none"}`;
}
route();
