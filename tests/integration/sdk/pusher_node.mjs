// Drives pusher-js, Laravel Echo and the library for backends in Node, as `pushers.mjs` says.
import Echo from 'laravel-echo';
import Server from 'pusher';
import Pusher from 'pusher-js';
import { serve } from '../../node.mjs';
import { driver } from './pushers.mjs';

serve(driver({ ordinary: Pusher }, Echo, Server));
