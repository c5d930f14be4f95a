import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { VfioUserBus } from '../../../src/bus/index.js';
import type { SdxiError } from '../../../src/errors.js';
import { closeFd } from '../../../src/native/libc.js';
import { listenAt } from '../../../src/native/socket.js';

/** Sent by opening a bus with four vectors, a read and a write of a register. */
const MESSAGES = 11;

const descriptors = () => readdirSync('/proc/self/fd').length;

/** What comes of a server that answers message number `at` wrongly. */
async function meet(how: string, at: number, options = 'registerTimeoutMs=500'): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), 'sdxi-hostile-'));
  const listener = listenAt(join(folder, 's'));
  const server = new Worker(new URL('./scripted.mjs', import.meta.url), { workerData: { listener, at, how } });
  const ended = new Promise((resolve) => server.once('exit', resolve));
  try {
    const bus = await VfioUserBus.open(`vfio-user:${join(folder, 's')}?${options}`);
    try {
      bus.readRegister(0x10);
      bus.writeRegister(0x10, 1n);
      return 'nothing';
    } catch (error) {
      return (error as SdxiError).code;
    } finally {
      await bus.close();
    }
  } catch (error) {
    return (error as SdxiError).code;
  } finally {
    await ended;
    closeFd(listener);
    rmSync(folder, { recursive: true, force: true });
  }
}

describe('a server that does not keep to the protocol', () => {
  it('one that does is fine', async () => {
    expect(await meet('well', -1)).toBe('nothing');
  });

  it.each(['close', 'id', 'command', 'asks', 'garbage'])('%s, at every message: the bus is lost', { timeout: 60_000 }, async (how) => {
    for (let at = 0; at < MESSAGES; at++) expect(`${at}: ${await meet(how, at)}`).toBe(`${at}: ERR_SDXI_BUS_LOST`);
  });

  it.each(['half', 'bodyless', 'oversized', 'tiny', 'silent'])(
    '%s, at every message: the bus is lost in time',
    { timeout: 60_000 },
    async (how) => {
      await meet(how, 0, 'registerTimeoutMs=100&openTimeoutMs=300');
      const before = descriptors();
      for (let at = 0; at < MESSAGES; at++) {
        expect(`${at}: ${await meet(how, at, 'registerTimeoutMs=100&openTimeoutMs=300')}`).toBe(`${at}: ERR_SDXI_BUS_LOST`);
      }
      expect(descriptors()).toBeLessThanOrEqual(before);
    },
  );

  it('one that takes its time with each answer is not waited for longer than opening may take', async () => {
    expect(await meet('late', 0, 'openTimeoutMs=600')).toBe('ERR_SDXI_BUS_LOST');
  });

  it('descriptors that belong nowhere are not kept', async () => {
    expect(await meet('fds', 0)).toBe('nothing');
    const before = descriptors();
    expect(await meet('fds', 0)).toBe('nothing');
    expect(descriptors()).toBeLessThanOrEqual(before);
  });

  it('an errno is told, and nothing is left open', { timeout: 60_000 }, async () => {
    await meet('errno', 0);
    const before = descriptors();
    for (let at = 0; at < MESSAGES; at++) expect(`${at}: ${await meet('errno', at)}`).toBe(`${at}: ERR_SDXI_SYSTEM`);
    expect(descriptors()).toBeLessThanOrEqual(before);
  });

  it.each(['major', 'class'])('%s: it is no function for us', async (how) => {
    expect(await meet(how, 0)).toBe('ERR_SDXI_UNSUPPORTED');
  });

  it.each([1, 2, 3, 4, 5])('an answer of %s that is too short loses the bus', async (at) => {
    expect(await meet('short', at)).toBe('ERR_SDXI_BUS_LOST');
  });
});
