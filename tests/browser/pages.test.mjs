// The pages in a browser. A person signs in with an issuer, approves a release and a rollback by keyboard, and signs
// out. Every page that the test opens is examined, and so is every page that they link to.
//
// tests/e2e/browser.rs starts the service with data and this test with the variables PAGES_URL (of the service), PATHS
// (of the pages to open, one a line), PERSON (the name of the person whom the issuer signs in) and CHROMIUM (the program).

import assert from "node:assert/strict";
import { after, afterEach, before, test } from "node:test";
import { chromium } from "playwright-core";
import { examine, links } from "./examine.mjs";
import { decide, enter, typeInto } from "./keyboard.mjs";
import { Watch } from "./watch.mjs";

const { PAGES_URL, PATHS, PERSON, CHROMIUM } = process.env;
const OVERVIEW = "/t/default";
/** Maximum number of linked pages that are opened. */
const MAX_LINKED = 60;
/** Maximum time of each step, in milliseconds. */
const STEP_TIMEOUT = 15_000;

let browser;
let page;
let watch;

before(async () => {
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
  page = await browser.newPage();
  page.setDefaultTimeout(STEP_TIMEOUT);
  watch = await Watch.start(page);
});

after(() => browser?.close());

afterEach(() => assert.equal(watch.take().join("\n"), ""));

/** Opens a page and returns the status of the answer. */
async function open(path) {
  const response = await page.goto(PAGES_URL + path);
  return response.status();
}

/** Opens a page and examines it. */
async function openAndExamine(path) {
  assert.equal(await open(path), 200, path);
  assert.equal(page.url(), PAGES_URL + path);
  await examine(page);
}

const pathShown = () => new URL(page.url()).pathname;

test("a person signs in with the issuer by keyboard and returns to the page that was asked for", async () => {
  assert.equal(await open(OVERVIEW), 200);
  assert.equal(pathShown(), "/signin");
  await examine(page);

  await enter(page, page.locator('a[href^="/signin/"]'));

  assert.equal(pathShown(), OVERVIEW);
  const header = await page.locator("header").first().innerText();
  assert.ok(header.includes(PERSON), header);
});

test("a person approves a release by keyboard, with the reasons of the gate in view", async () => {
  assert.equal(await open("/t/default/approvals/new"), 200);
  const question = 'form:not([method="post" i])';
  for (const [name, value] of Object.entries({ environment: "production", service: "web", version: "v3" })) {
    await typeInto(page, page.locator(`${question} [name="${name}"]`), value);
  }
  await enter(page, page.locator(`${question} button`));
  const findings = await page.locator("main").innerText();
  assert.ok(findings.includes("0 of 1 approvals"), findings);

  await decide(page, "/approvals", "approve", "I looked at the change.");

  assert.notEqual(pathShown(), "/t/default/approvals/new");
});

test("a person approves a rollback by keyboard and sees the vote", async () => {
  const path = "/t/default/rollbacks/back-1";
  assert.equal(await open(path), 200);

  await decide(page, "/vote", "approve", "Customers see errors.");

  assert.equal(await open(path), 200);
  const rollback = await page.locator("main").innerText();
  assert.ok(rollback.includes(PERSON), rollback);
});

test("every page is accessible in both colour schemes and fits a narrow window, and no text of an event is markup", async (t) => {
  for (const path of PATHS.split("\n")) {
    await t.test(path, () => openAndExamine(path));
  }
});

test("every link of the pages leads to a page", async () => {
  const linked = new Set();
  for (const path of PATHS.split("\n")) {
    await open(path);
    for (const link of await links(page)) linked.add(link);
  }
  assert.ok(linked.size > 5, `${linked.size} links`);
  for (const link of [...linked].slice(0, MAX_LINKED)) {
    assert.equal(await open(link), 200, link);
  }
});

test("a page that does not exist is a page with the way back", async () => {
  const path = "/t/default/rollbacks/no-such-rollback";
  watch.expectError(PAGES_URL + path);

  assert.equal(await open(path), 404);

  await examine(page);
  assert.ok((await links(page)).includes(OVERVIEW));
});

test("after a sign-out by keyboard the pages ask for a sign-in", async () => {
  await open(OVERVIEW);

  await enter(page, page.locator('form[action="/signout"] button'));

  assert.equal(pathShown(), "/signin");
  assert.equal(await open(OVERVIEW), 200);
  assert.equal(pathShown(), "/signin");
});
