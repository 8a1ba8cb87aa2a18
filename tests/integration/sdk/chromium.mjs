// Drives the official JavaScript SDK in a page of headless Chromium, as it comes bundled, as `clients.mjs` says.
//
//   node chromium.mjs CHROMIUM
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { chromium } from 'playwright-core';
import { serve } from '../../node.mjs';

const bundles = join(dirname(createRequire(import.meta.url).resolve('centrifuge')), '../dist');

const browser = await chromium.launch({
  executablePath: process.argv[2],
  args: ['--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage'],
});
// A page that nobody has served may not talk to this machine
const site = createServer(async ({ url }, answer) => {
  const script = url === '/clients.mjs';
  answer.setHeader('Content-Type', script ? 'text/javascript' : 'text/html');
  answer.end(script ? await readFile(new URL('clients.mjs', import.meta.url)) : '<!doctype html>');
});
await new Promise((listening) => site.listen(0, '127.0.0.1', listening));
const page = await browser.newPage();
await page.goto(`http://127.0.0.1:${site.address().port}/`);

const listeners = new Map();
await page.exposeFunction('tell', (connection, message) => listeners.get(connection)(message));
for (const [name, bundle] of [
  ['json', 'centrifuge.js'],
  ['protobuf', 'centrifuge.protobuf.js'],
]) {
  await page.addScriptTag({ content: await readFile(join(bundles, bundle), 'utf8') });
  await page.evaluate((form) => {
    globalThis[form] = { Centrifuge, UnauthorizedError: Centrifuge.UnauthorizedError };
  }, name);
}
await page.evaluate(async () => {
  const { driver } = await import('/clients.mjs');
  globalThis.begin = driver(json, protobuf, {});
  globalThis.connections = new Map();
});

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
