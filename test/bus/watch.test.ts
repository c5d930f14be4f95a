import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { promisify } from 'node:util';
import { afterEach, describe, expect, it } from 'vitest';
import { EventWatch, type WatchOptions } from '../../src/bus/watch/event-watch.js';
import { createEventfd, signalEventfd } from '../../src/native/eventfd.js';
import { closeFd } from '../../src/native/libc.js';
import { socketPair } from '../../src/native/socket.js';

const open: EventWatch[] = [];

function start(options: Partial<WatchOptions> = {}): EventWatch {
  const watch = EventWatch.start({ uri: 'test:', vectors: 3, ...options });
  open.push(watch);
  return watch;
}

afterEach(async () => {
  for (const watch of open.splice(0)) await watch.close();
});

const descriptors = () => readdirSync('/proc/self/fd').length;
const never = (vector = 0) => ({ what: 'test', timeoutMs: 10_000, vector, mode: 'interrupt' as const });

describe('event watch', () => {
  it('delivers what event counters count, also before the thread runs', async () => {
    const watch = start();
    for (let i = 0; i < 5; i++) signalEventfd(watch.fds[1]);
    await watch.wait(() => watch.words.count(1) === 5, never(1));
    signalEventfd(watch.fds[2]);
    await watch.wait(() => watch.words.count(2) === 1, never(2));
    expect([0, 1, 2].map((v) => watch.words.count(v))).toEqual([0, 5, 1]);
  });

  it('a masked vector is pending, and delivered once when it is unmasked', async () => {
    const watch = start();
    watch.words.mask(0);
    signalEventfd(watch.fds[0]);
    signalEventfd(watch.fds[0]);
    await watch.wait(() => watch.words.pending(0), never());
    expect(watch.words.count(0)).toBe(0);
    watch.words.unmask(0);
    expect(watch.words.count(0)).toBe(1);
    expect(watch.words.pending(0)).toBe(false);
  });

  it('waits that a hang-up overtakes end with the reason', async () => {
    const [ours, theirs] = socketPair();
    const watch = start({ lost: [{ fd: ours, on: 'hang-up', reason: 'the other end closed' }] });
    const waits = Promise.allSettled([watch.wait(() => false, never()), watch.wait(() => false, { ...never(), vector: undefined })]);
    await pause(50);
    expect(watch.running).toBe(true);
    closeFd(theirs);
    for (const { reason } of (await waits) as PromiseRejectedResult[]) {
      expect(reason).toMatchObject({ code: 'ERR_SDXI_BUS_LOST', fields: { reason: 'the other end closed' } });
    }
    expect(() => watch.check()).toThrow('the other end closed');
    await watch.close();
    closeFd(ours);
  });

  it('an event that tells of a removal counts as one', async () => {
    const removal = createEventfd();
    const watch = start({ lost: [{ fd: removal, on: 'input', reason: 'the device is being removed' }] });
    const wait = watch.wait(() => false, never());
    signalEventfd(removal);
    await expect(wait).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST' });
    await watch.close();
    closeFd(removal);
  });

  it('the death of its thread is seen by all who wait', async () => {
    const watch = start();
    const wait = watch.wait(() => false, never());
    const lost = expect(wait).rejects.toMatchObject({ code: 'ERR_SDXI_BUS_LOST', message: expect.stringContaining('watcher ended') });
    await watch.terminate();
    await lost;
  });

  it('close ends waits, can be repeated, and leaves no descriptor', async () => {
    const before = descriptors();
    const watch = start({ vectors: 20 });
    const wait = expect(watch.wait(() => false, never())).rejects.toMatchObject({ code: 'ERR_SDXI_CLOSED' });
    await Promise.all([watch.close(), watch.close()]);
    await wait;
    expect(() => watch.check()).toThrow(expect.objectContaining({ code: 'ERR_SDXI_CLOSED' }));
    expect(descriptors()).toBeLessThanOrEqual(before);
  });

  it.each([
    ['goes idle', ''],
    ['calls process.exit', 'process.exit(0)'],
  ])('lets a process end that %s', async (_how, end) => {
    const script = `import { EventWatch } from '${new URL('../../dist/bus/watch/event-watch.js', import.meta.url).href}';
      EventWatch.start({ uri: 'test:', vectors: 2 });
      await new Promise((done) => setTimeout(done, 300));
      ${end}`;
    await promisify(execFile)(process.execPath, ['--input-type=module', '-e', script], { timeout: 10_000 });
  });
});
