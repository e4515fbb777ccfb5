// What a page does that none of ours may do: messages in the console, violations of the content security policy, script
// errors, dialogs, failed requests, and answers with an error that the test does not expect.

/** Collects what is wrong with the pages of a tab, until it is taken. */
export class Watch {
  #found = [];
  #expected = new Set();

  /** Watches a tab from its first page on. */
  static async start(page) {
    const watch = new Watch();
    const add = (text) => watch.#found.push(`${new URL(page.url()).pathname}: ${text}`);
    page.on("console", (message) => {
      const { url } = message.location();
      // The browser reports each answer with an error.
      if (!watch.#expected.has(url)) add(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => add(`script error: ${error.message}`));
    page.on("dialog", async (dialog) => {
      add(`dialog: ${dialog.message()}`);
      await dialog.dismiss();
    });
    page.on("requestfailed", (request) => {
      const error = request.failure()?.errorText;
      // The browser stops loading a page, such as its icon, when the test leaves it.
      if (error !== "net::ERR_ABORTED") add(`failed request: ${request.url()} ${error}`);
    });
    page.on("response", (response) => {
      const url = response.url();
      if (response.status() >= 400 && !watch.#expected.has(url)) add(`status ${response.status()}: ${url}`);
    });
    await page.exposeBinding("reportViolation", (_, text) => add(`content security policy: ${text}`));
    await page.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (event) => {
        window.reportViolation(`${event.violatedDirective} ${event.blockedURI} ${event.sourceFile ?? ""}`);
      });
    });
    return watch;
  }

  /** Accepts an answer with an error at this URL. */
  expectError(url) {
    this.#expected.add(url);
  }

  /** Returns what was found since the last call. */
  take() {
    return this.#found.splice(0);
  }
}
