// What holds for every page: axe finds nothing, the page does not scroll sideways, and no text of an event is markup.

import assert from "node:assert/strict";
import path from "node:path";
import axe from "axe-core";

const WIDTHS = [1440, 320];
const HEIGHT = 900;
const SCHEMES = ["light", "dark"];
/** Folder of a picture of each page, for a person to look at; without it, none are made. */
const PICTURES = process.env.PICTURES;

/** Examines the page that is shown, at each width and in each colour scheme. */
export async function examine(page) {
  await page.evaluate(axe.source);
  const wrong = new Map();
  const add = (text, place) => wrong.set(text, [...(wrong.get(text) ?? []), place]);
  for (const text of await page.evaluate(structure)) add(text, "markup");
  for (const width of WIDTHS) {
    await page.setViewportSize({ width, height: HEIGHT });
    for (const colorScheme of SCHEMES) {
      await page.emulateMedia({ colorScheme });
      const found = [...(await page.evaluate(violations)), ...(await page.evaluate(sidewaysScroll))];
      for (const text of found) add(text, `${width} px ${colorScheme}`);
      await picture(page, width, colorScheme);
    }
  }
  await page.setViewportSize({ width: WIDTHS[0], height: HEIGHT });
  const lines = [...wrong].map(([text, places]) => `${text} (${places.join(", ")})`);
  assert.equal(lines.join("\n"), "", page.url());
}

/** Returns the paths of the links to pages of the same service. */
export function links(page) {
  return page.evaluate(() => {
    const own = [...document.links].filter((link) => link.origin === location.origin);
    return own.map((link) => link.pathname + link.search);
  });
}

async function picture(page, width, scheme) {
  if (!PICTURES) return;
  const { pathname, search } = new URL(page.url());
  const name = `${pathname}${search}`.replaceAll(/[^a-z0-9]+/gi, "-").slice(0, 80);
  await page.screenshot({ path: path.join(PICTURES, `${name}-${width}-${scheme}.png`), fullPage: true });
}

// The functions below run in the page.

async function violations() {
  const options = { resultTypes: ["violations"], rules: { "target-size": { enabled: true } } };
  const { violations: found } = await window.axe.run(document, options);
  return found.flatMap(({ id, help, nodes }) => nodes.map((node) => `${id}: ${help}: ${node.html}`));
}

function sidewaysScroll() {
  const { scrollWidth, clientWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const isWide = (element) => element.getBoundingClientRect().right > clientWidth + 1;
  const wide = [...document.body.querySelectorAll("*")].filter(isWide).slice(0, 5);
  const tags = wide.map((element) => element.outerHTML.slice(0, 120)).join(" ");
  return [`the page is ${scrollWidth} px wide: ${tags}`];
}

function structure() {
  const wrong = [];
  const active = document.querySelectorAll("script, style, iframe, object, embed, [style]");
  for (const element of active) wrong.push(`not allowed: ${element.outerHTML.slice(0, 120)}`);
  for (const element of document.querySelectorAll("*")) {
    const handlers = element.getAttributeNames().filter((name) => name.startsWith("on"));
    if (handlers.length > 0) wrong.push(`event handler: ${element.outerHTML.slice(0, 120)}`);
  }
  for (const link of document.links) {
    const isOwn = link.origin === location.origin;
    const isSafe = /^https?:$/.test(link.protocol) && link.relList.contains("noopener");
    if (!isOwn && !isSafe) wrong.push(`unsafe link: ${link.outerHTML.slice(0, 120)}`);
  }
  if (document.documentElement.lang !== "en") wrong.push("the language of the page is not stated");
  const headings = document.querySelectorAll("h1").length;
  if (headings !== 1) wrong.push(`${headings} elements h1`);
  for (const table of document.querySelectorAll("table")) {
    if (!table.caption) wrong.push(`table without a caption: ${table.outerHTML.slice(0, 120)}`);
  }
  return wrong;
}
