// Two people on the page, each through a gateway of its own: Ann at a desk, Bob on a phone. Screenshots go to the
// directory. Gives the names of the steps that were taken.
import assert from 'node:assert/strict';
import { join } from 'node:path';

const DESK = { viewport: { width: 1280, height: 800 } };
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };

// Lets a test cut the connection of a page, and hold it down until it is mended
async function tap(page) {
  let cut = null;
  const ends = [];
  await page.routeWebSocket(/\/connection\/websocket$/, (socket) => {
    if (cut) return socket.close(cut);
    const server = socket.connectToServer();
    ends.push(async () => {
      await server.close();
      await socket.close(cut);
    });
  });
  return {
    async cut(code, reason) {
      cut = { code, reason };
      await Promise.all(ends.splice(0).map((end) => end()));
    },
    mend() {
      cut = null;
    },
  };
}

const online = (page) => page.locator('[data-testid="connection"][data-state="online"]').waitFor();
const message = (page, text) => page.getByTestId('message').filter({ hasText: text });
const person = (page, text) => page.getByTestId('person').filter({ hasText: text });
const texts = (page) => page.locator('[data-testid="message"] .text').allTextContents();
const count = (page, id, expected) =>
  page.waitForFunction(
    ([each, n]) => document.querySelectorAll(`[data-testid="${each}"]`).length === n,
    [id, expected],
  );

async function say(page, text) {
  await page.getByRole('textbox', { name: 'Message' }).fill(text);
  await page.keyboard.press('Enter');
}

export default async function (open, forAnn, forBob, directory) {
  const problems = [];
  const done = [];

  async function enter(name, url, device) {
    const page = await open(device);
    page.on('pageerror', (error) => problems.push(`${name}: ${error}`));
    page.line = await tap(page);
    await page.goto(url);
    await page.getByLabel('Your name').fill(name);
    await page.keyboard.press('Enter');
    await online(page);
    return page;
  }

  async function step(name, run) {
    try {
      await run();
      done.push(name);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    }
  }

  const ann = await enter('Ann', forAnn, DESK);
  const bob = await enter('Bob', forBob, PHONE);

  await step('each is served by a node of its own', async () => {
    const nodes = await Promise.all([ann, bob].map((page) => page.getByTestId('node').textContent()));
    assert.ok(nodes.every(Boolean));
    assert.notEqual(...nodes);
  });
  await step('both see each other online', async () => {
    await person(ann, 'Bob').waitFor();
    await bob.locator('header').getByRole('button', { name: 'Online' }).click();
    await person(bob, 'Ann').waitFor();
    await bob.screenshot({ path: join(directory, 'phone-people.png') });
    await bob.getByRole('button', { name: 'Close people' }).click();
    await count(ann, 'person', 2);
  });
  await step('messages reach the other once and in order', async () => {
    await say(ann, 'Hello Bob');
    await message(bob, 'Hello Bob').waitFor();
    for (let n = 1; n <= 5; n++) await say(bob, `line ${n}`);
    await message(ann, 'line 5').waitFor();
    for (const page of [ann, bob]) {
      assert.deepEqual(await texts(page), ['Hello Bob', 'line 1', 'line 2', 'line 3', 'line 4', 'line 5']);
    }
    await ann.screenshot({ path: join(directory, 'desk-chat.png') });
    await bob.screenshot({ path: join(directory, 'phone-chat.png') });
  });
  await step('markup stays text', async () => {
    await say(ann, '<img src=x onerror="document.title=1"><b>bold</b>');
    await message(bob, '<b>bold</b>').waitFor();
    assert.equal(await bob.locator('#messages img, #messages b').count(), 0);
  });
  await step('history is there after a reload', async () => {
    const before = await texts(bob);
    await bob.reload();
    await online(bob);
    await message(bob, 'bold').waitFor();
    assert.deepEqual(await texts(bob), before);
  });
  await step('what was missed while offline is caught up', async () => {
    await bob.line.cut(3001, 'shutdown');
    await bob.getByText('Trying to reconnect: shutdown').waitFor();
    await person(ann, 'Bob').waitFor({ state: 'detached' });
    await say(ann, 'missed 1');
    await say(ann, 'missed 2');
    await message(ann, 'missed 2').waitFor();
    bob.line.mend();
    await bob.getByText('Caught up: 2 messages').waitFor();
    assert.deepEqual((await texts(bob)).slice(-2), ['missed 1', 'missed 2']);
    await person(ann, 'Bob').waitFor();
  });
  await step('a room of their own, by keyboard alone', async () => {
    await ann.getByLabel('Open a room').focus();
    await ann.keyboard.type('quiet-corner');
    await ann.keyboard.press('Enter');
    await ann.getByRole('heading', { name: 'quiet-corner' }).waitFor();
    await bob.goto(`${forBob}/#/quiet-corner`);
    await person(ann, 'Bob').waitFor();
    await ann.locator('#text').focus();
    await ann.keyboard.type('psst');
    await ann.keyboard.press('Enter');
    await message(bob, 'psst').waitFor();
    assert.deepEqual(await texts(bob), ['psst']);
  });
  await step('who leaves is no longer online', async () => {
    await bob.context().close();
    await person(ann, 'Bob').waitFor({ state: 'detached' });
    await count(ann, 'person', 1);
  });
  assert.deepEqual(problems, []);
  return done;
}
