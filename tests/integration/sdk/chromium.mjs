// Drives the official JavaScript SDK in a page of headless Chromium, as it comes bundled, as `clients.mjs` says.
//
//   node chromium.mjs CHROMIUM
import { dirname, join } from 'node:path';
import { file, servePage } from './pages.mjs';

const bundles = join(dirname(file('centrifuge')), '../dist');
const named = (form) => `globalThis.${form} = { Centrifuge, UnauthorizedError: Centrifuge.UnauthorizedError }`;

await servePage(
  process.argv[2],
  [
    [join(bundles, 'centrifuge.js'), named('json')],
    [join(bundles, 'centrifuge.protobuf.js'), named('protobuf')],
  ],
  'clients.mjs',
  'driver(json, protobuf, {})',
);
