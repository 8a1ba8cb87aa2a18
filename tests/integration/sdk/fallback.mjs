// A page whose WebSockets are blocked, in headless Chromium: the SDK takes the next way by itself.
//
//   node fallback.mjs CHROMIUM HOST:PORT CHANNEL TOKEN    tells the transport it came by, and ok; twice
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { chromium } from 'playwright-core';

const [executablePath, host, channel, token] = process.argv.slice(2);
const build = dirname(createRequire(import.meta.url).resolve('centrifuge'));
const script = await readFile(join(build, '../dist/centrifuge.js'), 'utf8');

// Without ReadableStream, as old browsers are, the way after the next is taken
const talk = async ([channel, token, without]) => {
  const options = { token, emulationEndpoint: '/emulation' };
  if (without) options.readableStream = options.fetch = null;
  if (without) options.fetch = fetch.bind(globalThis);
  const endpoints = [
    { transport: 'websocket', endpoint: `ws://${location.host}/connection/websocket` },
    ...(without ? [] : [{ transport: 'http_stream', endpoint: '/connection/http_stream' }]),
    { transport: 'sse', endpoint: '/connection/sse' },
  ];
  const centrifuge = new Centrifuge(endpoints, options);
  const connected = new Promise((told) => centrifuge.on('connected', told));
  const subscription = centrifuge.newSubscription(channel);
  const heard = [];
  subscription.on('publication', ({ data }) => heard.push(data));
  subscription.subscribe();
  centrifuge.connect();
  const { transport } = await connected;
  await subscription.ready(10000);
  for (let number = 0; number < 5; number++) {
    await centrifuge.publish(channel, number);
    while (heard.length <= number) await new Promise((again) => setTimeout(again, 10));
  }
  centrifuge.disconnect();
  return [transport, heard.join() === '0,1,2,3,4' ? 'ok' : heard.join()];
};

const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
try {
  const page = await browser.newPage();
  await page.goto(`http://${host}/health/live`);
  await page.addScriptTag({ content: script });
  for (const without of [false, true]) console.log((await page.evaluate(talk, [channel, token, without])).join(' '));
} finally {
  await browser.close();
}
