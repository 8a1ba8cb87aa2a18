// A page of headless Chromium that serves tests as a program in Node does.
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { chromium } from 'playwright-core';
import { serve } from '../../node.mjs';

const { resolve } = createRequire(import.meta.url);

// Where a file of a package is
export const file = (name) => resolve(name);

// `bundles` are run one by one in the page, each followed by the expression beside it, and last `begin`, which gives
// what `serve` takes, of a module of this directory.
export async function servePage(executablePath, bundles, module, begin) {
  const browser = await chromium.launch({
    executablePath,
    args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
  });
  // A page that nobody has served may not talk to this machine
  const site = createServer(async ({ url }, answer) => {
    const script = url === `/${module}`;
    answer.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
    answer.end(script ? await readFile(new URL(module, import.meta.url)) : '<!doctype html>');
  });
  await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
  const page = await browser.newPage();
  await page.goto(`http://127.0.0.1:${site.address().port}/`);

  const listeners = new Map();
  await page.exposeFunction('tell', (connection, message) => listeners.get(connection)(message));
  for (const [bundle, then] of bundles) {
    await page.addScriptTag({ content: await readFile(bundle, 'utf8') });
    await page.evaluate(then);
  }
  await page.evaluate(`(async () => {
    const { driver } = await import('/${module}');
    globalThis.begin = ${begin};
    globalThis.connections = new Map();
  })()`);

  serve(
    (tell) => {
      const connection = listeners.size;
      listeners.set(connection, tell);
      const begun = page.evaluate((id) => {
        connections.set(id, begin((message) => tell(id, message)));
      }, connection);
      return {
        async take(message) {
          await begun;
          await page.evaluate(([id, line]) => void connections.get(id).take(line), [connection, message]);
        },
        end: () => page.evaluate((id) => connections.get(id).end(), connection),
      };
    },
    () => browser.close(),
  );
}
