// Windows of one headless Chromium for many tests: one JSON call a line, one JSON answer a line.
//
//   node browser.mjs CHROMIUM DIRECTORY    playwright-core is found in the node_modules of DIRECTORY
//
//   {"id": 1, "window": 7, "call": "fill", "args": ["#text", "hello"]}    {"id": 1, "result": null}
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { serve } from './node.mjs';

const [executablePath, directory] = process.argv.slice(2);
const { chromium } = createRequire(join(directory, 'package.json'))('playwright-core');
const DEADLINE = 15_000;

const args = ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'];
const browser = await chromium.launch({ executablePath, args });
const gone = () => {
  console.error('Chromium is gone');
  process.exit(1);
};
browser.on('disconnected', gone);

const calls = {
  // The default export of a module, with a way to open pages and arguments; answers what that gives
  async script({ windows }, path, ...given) {
    const open = async (options) => {
      const context = await browser.newContext(options);
      windows.set(context, { context });
      return context.newPage();
    };
    return (await import(path)).default(open, ...given);
  },
  async open({ id, windows }, { cuttable, ...options }) {
    const context = await browser.newContext(options);
    windows.set(id, { context });
    const page = await context.newPage();
    page.setDefaultTimeout(DEADLINE);
    const problems = [];
    page.on('pageerror', (error) => problems.push(String(error)));
    windows.set(id, { context, page, problems, line: cuttable ? await tap(page) : null });
  },
  // Answers what went wrong in the page
  async close({ id, windows, context, problems }) {
    windows.delete(id);
    await context.close();
    return problems;
  },
  // Every WebSocket fails, as behind a proxy that lets none through
  async blockWebSockets({ page }) {
    await page.addInitScript(() => {
      const Real = WebSocket;
      globalThis.WebSocket = class extends Real {
        constructor(_url, protocols) {
          super('ws://127.0.0.1:9/', protocols);
        }
      };
    });
  },
  async cut({ line }, code, reason) {
    await line.cut(code, reason);
  },
  async mend({ line }) {
    line.mend();
  },
  async waitText({ page }, selector, text) {
    const holds = ([where, what]) => document.querySelector(where)?.innerText.includes(what);
    await waiting(page, selector, `"${text}"`, () => page.waitForFunction(holds, [selector, text]));
  },
  async waitNoText({ page }, selector, text) {
    const lacks = ([where, what]) => !document.querySelector(where)?.innerText.includes(what);
    await waiting(page, selector, `no "${text}"`, () => page.waitForFunction(lacks, [selector, text]));
  },
  async waitFor({ page }, expression) {
    await page.waitForFunction(expression);
  },
  // The mouse goes along points given in pixels from the element's corner, with its button down
  async drag({ page }, selector, points) {
    const box = await page.locator(selector).boundingBox();
    for (const [n, [x, y]] of points.entries()) {
      await page.mouse.move(box.x + x, box.y + y, { steps: 4 });
      if (n === 0) await page.mouse.down();
    }
    await page.mouse.up();
  },
  async move({ page }, selector, x, y) {
    const box = await page.locator(selector).boundingBox();
    await page.mouse.move(box.x + x, box.y + y, { steps: 4 });
  },
  async goto({ page }, url) {
    await page.goto(url);
  },
  async screenshot({ page }, path) {
    await page.screenshot({ path, fullPage: true });
  },
};

// The rest are calls of playwright's page: fill, click, press, selectOption, innerText, evaluate, …
async function run(windows, { window: id, call, args: given }) {
  const window = { id, windows, ...windows.get(id) };
  return call in calls ? calls[call](window, ...given) : window.page[call](...given);
}

async function waiting(page, selector, what, wait) {
  try {
    await wait();
  } catch (error) {
    const text = await page.evaluate((where) => document.querySelector(where)?.innerText, selector);
    throw new Error(`${what} in ${selector} not within ${DEADLINE / 1000} s; there is ${JSON.stringify(text)}`, {
      cause: error,
    });
  }
}

// Lets a test close a page's WebSockets, and keep them closed until it mends the line
async function tap(page) {
  let down = null;
  const ends = [];
  await page.routeWebSocket(/./, (socket) => {
    if (down) return socket.close(down);
    const server = socket.connectToServer();
    ends.push(async () => {
      await server.close();
      await socket.close(down);
    });
  });
  return {
    async cut(code, reason) {
      down = { code, reason };
      await Promise.all(ends.splice(0).map((end) => end()));
    },
    mend() {
      down = null;
    },
  };
}

function begin(tell) {
  const windows = new Map();
  return {
    async take(message) {
      try {
        tell({ id: message.id, result: (await run(windows, message)) ?? null });
      } catch (error) {
        tell({ id: message.id, error: `${message.call}: ${error.message}` });
      }
    },
    end: () => Promise.all([...windows.values()].map(({ context }) => context.close())),
  };
}

serve(begin, () => browser.off('disconnected', gone).close());
