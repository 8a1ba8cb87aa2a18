// The admin page, on a gateway that does not exist (mock.py). Gives the names of the steps that were taken.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';

const HOSTILE = `<img src=x onerror="document.title='taken'">`;
const VIEWS = ['overview', 'connections', 'channels', 'channel/lobby', `channel/${encodeURIComponent(HOSTILE)}`, 'publish',
  'recorder?what=user&name=zoe', 'settings'];

export default async function (open, url, openURL) {
  const page = await open({ viewport: { width: 1280, height: 800 } });
  page.setDefaultTimeout(10_000);
  const problems = [];
  const done = [];
  page.on('pageerror', (error) => problems.push(String(error)));
  page.on('console', (message) => /Content Security Policy/.test(message.text()) && problems.push(message.text()));

  const happen = (what) => fetch(new URL(`/mock/${what}`, url), { method: 'POST' });
  const view = (address) => page.evaluate((hash) => (location.hash = hash), `#/${address}`);
  const see = (text, where = 'main') => page.locator(where).getByText(text).first().waitFor();
  const rows = () => page.locator('main tbody tr');
  const press = async (...keys) => {
    for (const key of keys) await page.keyboard.press(key);
  };
  const hash = (pattern) => page.waitForFunction((text) => new RegExp(text).test(location.hash), pattern.source);

  async function step(name, run) {
    try {
      await run();
      assert.deepEqual(problems, []);
      done.push(name);
    } catch (error) {
      throw new Error(`${name}: ${error.message}`, { cause: error });
    }
  }

  await step('where no password is needed, nobody is asked', async () => {
    await page.goto(openURL);
    await page.locator('tbody tr', { hasText: 'gateway-a' }).waitFor();
    assert.equal(await page.getByRole('button', { name: 'Sign out' }).count(), 0);
  });
  await step('a password is asked for, and leads to where one wanted to go', async () => {
    await page.goto(`${url}#/channels?pattern=room:1*`);
    await page.getByLabel('Password').fill('wrong');
    await press('Enter');
    await see('wrong password', '#login');
    await page.getByLabel('Password').fill('admin');
    await press('Enter');
    await rows().first().waitFor();
    assert.match(await rows().first().innerText(), /^room:1\b/);
  });
  await step('the overview says what needs somebody, and who does not answer', async () => {
    await press('g', 'o');
    await see('Redis 10.0.0.5:6379 has not answered for 12 s');
    await see('1.4.0 on gateway-a; 1.4.1 on gateway-b');
    await page.waitForFunction(() => /[1-9]/.test(document.querySelectorAll('.card .value')[3].textContent)); // a rate
    await happen('lose');
    await see('does not answer');
    await page.locator('tr.silent', { hasText: 'gateway-b' }).waitFor();
    await page.locator('#state', { hasText: '1 of 2 nodes' }).waitFor();
    await happen('find');
  });
  await step('a user is found by keyboard alone, in pages, and the way back is kept', async () => {
    await press('g', 'c');
    await rows().nth(49).waitFor();
    const first = await rows().first().innerText();
    await press('n');
    await hash(/cursor=/);
    await see('Page 2');
    await page.waitForFunction((text) => document.querySelector('main tbody tr').innerText !== text, first);
    await page.goBack();
    await page.waitForFunction((text) => document.querySelector('main tbody tr')?.innerText === text, first);
    await press('/');
    await page.keyboard.type('user7');
    await press('Enter');
    await hash(/user=user7$/);
    await page.waitForFunction(() => document.querySelectorAll('main tbody tr').length < 5);
    await press('Escape', 'j', 'Enter');
    await hash(/^#\/connection\//);
    await see('Firefox/140.0');
    await see('lobby', 'main table');
  });
  await step('a connection is closed for good after a question, and is gone', async () => {
    await page.getByRole('button', { name: 'Close for good' }).click();
    await page.getByRole('button', { name: 'No' }).click();
    await page.getByRole('button', { name: 'Close for good' }).click();
    await page.getByRole('button', { name: 'Yes, close for good' }).click();
    await see('This connection has gone.');
    await press('Escape');
    await hash(/user=user7$/);
  });
  await step('whoever has a name like markup stays text', async () => {
    await view(`connections?user=${encodeURIComponent(HOSTILE)}`);
    await rows().getByText(HOSTILE).click();
    await see(HOSTILE, 'main dl');
    await rows().getByText(HOSTILE).click();
    await see(HOSTILE, 'main .name');
    await see('<img src=x onerror', 'main pre');
    assert.equal(await page.locator('main img').count(), 0);
    assert.ok((await page.title()).includes(HOSTILE));
  });
  await step('what is published by hand is checked, stored and shown', async () => {
    await view('publish?channel=lobby');
    await page.getByLabel('Data').fill('{\n  "text": tru\n}');
    await see('Line 2, column 11: a value must come here.');
    await page.getByLabel('Data').fill('{"id": 12345678901234567890}');
    await page.getByLabel('Tags').fill('from=admin');
    await press('Control+Enter');
    await see('at offset 46', 'main ol');
    await page.getByLabel('Channel').fill('unknown:x');
    await press('Enter');
    await see('there is no namespace unknown', 'main form');
    await page.locator('main ol a').click();
    await see('from=admin');
    await see('12345678901234567890', 'main pre');
    await see('more characters');
  });
  await step('a recording is followed, filtered and saved', async () => {
    await page.getByRole('button', { name: 'Record channel' }).click();
    await see('published at offset 12');
    await page.locator('#events-filter').fill('permission denied');
    await page.waitForFunction(() => !document.querySelector('.events').innerText.includes('publication'));
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('button', { name: 'Download' }).click()]);
    const saved = JSON.parse(await readFile(await file.path(), 'utf8'));
    assert.ok(saved.length >= 200 && saved.every(({ at }) => at));
    await page.getByRole('button', { name: 'Stop' }).last().click();
    await see('over');
  });
  await step('settings: what is set stands first', async () => {
    await press('Escape', 'g', 's');
    await rows().first().waitFor();
    const origins = await rows().locator('td:last-child').allInnerTexts();
    assert.deepEqual(origins.slice(0, 5), [...origins.filter((each) => each !== 'default'), 'default']);
    await press('/');
    await page.keyboard.type('hmac');
    await page.waitForFunction(() => document.querySelectorAll('main tbody tr').length === 1);
    await see('file gateway.toml');
  });
  await step('when a session is over, what was being written is still there after the password', async () => {
    await view('publish');
    await page.getByLabel('Data').fill('{"long": "text"}');
    await page.getByLabel('Channel').fill('lobby');
    await happen('expire');
    await page.getByRole('button', { name: 'Publish' }).click();
    await see('Your session is over', '#login');
    await page.getByLabel('Password').fill('admin');
    await press('Enter');
    await see('at offset 47', 'main ol');
  });
  await step('a gateway that is away says so, and is there again by itself', async () => {
    await happen('away');
    await view('channels');
    await see('No answer of the gateway since', '#away');
    await see('does not answer: HTTP 502', '#view');
    await happen('back');
    await rows().first().waitFor();
    await page.locator('#away').waitFor({ state: 'hidden' });
  });
  await step('nothing is cut off or scrolls sideways, on a phone or a small window', async () => {
    for (const width of [375, 900, 1100]) {
      await page.setViewportSize({ width, height: 740 });
      for (const each of VIEWS) {
        await view(each);
        await page.waitForFunction(() => !document.querySelector('[aria-busy="true"]'));
        const wide = await page.evaluate(() => [document.documentElement, ...document.querySelectorAll('.table, .events')]
          .filter(({ scrollWidth, clientWidth }) => scrollWidth > clientWidth + 1)
          .map(({ className, scrollWidth, clientWidth }) => `${className} ${scrollWidth} > ${clientWidth}`));
        assert.deepEqual(wide, [], `${each} at ${width}`);
      }
    }
  });
  return done;
}
