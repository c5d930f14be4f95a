import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { createEventfd, drainEventfd, signalEventfd } from '../../src/native/eventfd.js';
import { foreign } from '../../src/native/koffi.js';
import { closeFd } from '../../src/native/libc.js';

const F_SETFL = 4;
const libc = foreign<{ fcntl(fd: number, command: number, argument: number): number }>({ fcntl: 'int fcntl(int, int, int)' });

describe('an event counter', () => {
  it('counts until it is drained', () => {
    const fd = createEventfd();
    expect(drainEventfd(fd)).toBe(0);
    for (let i = 0; i < 3; i++) signalEventfd(fd);
    expect([drainEventfd(fd), drainEventfd(fd)]).toEqual([3, 0]);
    closeFd(fd);
  });

  it('never makes its reader wait, although another process has made reads of it wait, and was first to read', async () => {
    const fd = createEventfd();
    expect(libc.fcntl(fd, F_SETFL, 0)).toBe(0);
    const module = new URL('../../dist/native/eventfd.js', import.meta.url).href;
    const code = `import('${module}').then(({ drainEventfd }) => require('node:worker_threads').parentPort.postMessage(drainEventfd(${fd})))`;
    const reader = new Worker(code, { eval: true });
    const got = new Promise((resolve) => reader.once('message', resolve));
    // Lets a reader that waits go, so that it fails and does not hang.
    const rescue = setTimeout(() => signalEventfd(fd), 5000);
    expect(await got).toBe(0);
    clearTimeout(rescue);
    await reader.terminate();
    closeFd(fd);
  });
});
