// What a person does who has a keyboard and no mouse.

import assert from "node:assert/strict";

/** No page needs more presses of Tab to reach an element. */
const MAX_PRESSES = 150;

/** Presses Tab until the element has the focus, which must be visible. */
export async function tabTo(page, element) {
  for (let presses = 0; presses < MAX_PRESSES; presses += 1) {
    await page.keyboard.press("Tab");
    if (await element.evaluate((node) => node === document.activeElement)) {
      assert.ok(await element.evaluate(hasVisibleFocus), `the focus of ${element} is not visible`);
      return;
    }
  }
  assert.fail(`${MAX_PRESSES} presses of Tab do not reach ${element} on ${page.url()}`);
}

/** Moves to a field and types a text. */
export async function typeInto(page, field, text) {
  await tabTo(page, field);
  await page.keyboard.type(text);
}

/** Moves to a link or a button and presses Enter; waits for the page that follows. */
export async function enter(page, element) {
  await tabTo(page, element);
  await pressAndLoad(page, "Enter");
}

/** Gives a reason in the form of a decision and sends it. */
export async function decide(page, action, decision, reason) {
  const member = `[name="decision"][value="${decision}"]`;
  const form = page.locator(`form[action$="${action}"]:has(${member})`);
  await typeInto(page, form.locator('[name="reason"]'), reason);
  const button = form.locator(`button${member}`);
  await enter(page, (await button.count()) === 1 ? button : form.locator("button"));
}

async function pressAndLoad(page, key) {
  const loaded = page.waitForEvent("load");
  await page.keyboard.press(key);
  await loaded;
}

function hasVisibleFocus(node) {
  const { outlineStyle, outlineWidth, boxShadow } = getComputedStyle(node);
  const hasOutline = outlineStyle !== "none" && Number.parseFloat(outlineWidth) > 0;
  return node.matches(":focus-visible") && (hasOutline || boxShadow !== "none");
}
