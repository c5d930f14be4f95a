import { afterEach } from 'vitest';
import { type Mover, type OpenOptions, open } from '../../src/mover/index.js';
import { SERVED, served } from '../served.js';

/** Both ways to have a function in this process. What only these can: be saved, have virtual functions. */
export const EMBEDDED = [
  { name: 'engine thread', uri: 'embedded:' },
  { name: 'inline', uri: 'embedded:?inline=1' },
];

/** Or those that are served, with the options that follow, for {@link moverFixture}. */
export const URIS = SERVED ? [{ name: 'vfio-user', uri: 'vfio-user:' }] : EMBEDDED;

/** Opens movers that are closed after the test. */
export function moverFixture(): (uri?: string | string[], options?: OpenOptions) => Promise<Mover> {
  const opened: Mover[] = [];
  afterEach(async () => {
    await Promise.all(opened.splice(0).map((mover) => mover.close({ abort: true })));
  });
  return async (uri, options) => {
    // Patient: on a busy machine a stop may have to wait for its turn longer than a driver would.
    const wanted = typeof uri === 'string' ? /^vfio-user:\??(.*)$/.exec(uri) : null;
    if (wanted) {
      uri = await served(wanted[1], options?.functions);
      options = { ...options, functions: undefined };
    }
    const mover = await open(uri, { adminTimeoutMs: 5000, ...options });
    opened.push(mover);
    return mover;
  };
}

/** Bytes that look random and are the same each time. */
export function pattern(bytes: Uint8Array, seed = 1): void {
  let state = seed * 2654435761 + 1;
  for (let i = 0; i < bytes.length; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[i] = state >>> 24;
  }
}

export { rejection, thrown, turn } from '../driver/rig.js';
