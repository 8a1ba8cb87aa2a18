// Drives both builds of pusher-js, and Laravel Echo, in a page of headless Chromium, as `pushers.mjs` says.
//
//   node pusher_chromium.mjs CHROMIUM
import { file, servePage } from './pages.mjs';

await servePage(
  process.argv[2],
  [
    [file('pusher-js/dist/web/pusher.js'), 'globalThis.ordinary = Pusher'],
    [file('pusher-js/dist/web/pusher-with-encryption.js'), 'globalThis.encrypting = Pusher'],
    [file('laravel-echo/iife'), '0'],
  ],
  'pushers.mjs',
  'driver({ ordinary, encrypting }, Echo.default)',
);
