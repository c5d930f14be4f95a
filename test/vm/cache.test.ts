import { spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { cached, prune } from '../../src/vm/cache.js';

const CACHE_SOURCE = new URL('../../dist/vm/cache.js', import.meta.url).href;

/** A process that has been, and is no more. */
const gone = () => spawnSync(process.execPath, ['-e', '']).pid;

describe('the cache', () => {
  let root: string;
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), 'sdxi-test-'));
    vi.stubEnv('SDXI_CACHE', root);
  });
  afterEach(() => {
    vi.unstubAllEnvs();
    rmSync(root, { recursive: true });
  });
  const fill = (text: string) => async (folder: string) => writeFileSync(join(folder, 'file'), text);

  it('makes a folder once; a warm run does nothing', async () => {
    const place = await cached('thing', fill('first'));
    expect(await cached('thing', () => Promise.reject(new Error('made again')))).toBe(place);
    expect(readFileSync(join(place, 'file'), 'utf8')).toBe('first');
    expect(readdirSync(root)).toEqual(['thing']);
  });

  it('a fetch that is broken off leaves nothing half, and the next one starts anew', async () => {
    const broken = cached('thing', async (folder) => {
      await fill('half')(folder);
      throw new Error('no network');
    });
    await expect(broken).rejects.toThrow('no network');
    expect(readdirSync(root)).toEqual([]);
    expect(readFileSync(join(await cached('thing', fill('whole')), 'file'), 'utf8')).toBe('whole');
  });

  it('several that want the same at once get the one that was made', async () => {
    let made = 0;
    const make = async (folder: string) => {
      made++;
      await new Promise((resolve) => setTimeout(resolve, 20));
      await fill('one')(folder);
    };
    const places = await Promise.all([1, 2, 3].map(() => cached('thing', make)));
    expect([made, new Set(places).size]).toEqual([1, 1]);
  });

  it('the lock and the draft of a process that is gone are nobody\u2019s', async () => {
    const pid = gone();
    writeFileSync(join(root, 'thing.lock'), String(pid));
    mkdirSync(join(root, `thing.draft-${pid}-0`));
    mkdirSync(join(root, `thing.draft-${process.ppid}-0`));
    await cached('thing', fill('x'));
    expect(readdirSync(root).sort()).toEqual(['thing', `thing.draft-${process.ppid}-0`]);
  });

  it('a lock that names nobody is nobody\u2019s, after a while', async () => {
    writeFileSync(join(root, 'thing.lock'), '');
    utimesSync(join(root, 'thing.lock'), new Date(), new Date(Date.now() - 10_000));
    await cached('thing', fill('x'), AbortSignal.timeout(2000));
    expect(readdirSync(root)).toEqual(['thing']);
  });

  it('a folder that somebody else has finished meanwhile is taken', async () => {
    const place = await cached('thing', async (folder) => {
      await fill('late')(folder);
      mkdirSync(join(root, 'thing'));
      writeFileSync(join(root, 'thing', 'file'), 'early');
    });
    expect(readFileSync(join(place, 'file'), 'utf8')).toBe('early');
  });

  it('pruning keeps the newest and those that may be in use', () => {
    const now = Date.now();
    const age = (name: string, minutes: number) => {
      mkdirSync(join(root, name));
      utimesSync(join(root, name), new Date(now), new Date(now - minutes * 60_000));
    };
    for (const [name, minutes] of [
      ['node-a', 100],
      ['node-b', 60],
      ['node-c', 5],
      ['node-d', 1],
      ['guest-a', 200],
    ] as const)
      age(name, minutes);
    prune('node-', 1, now);
    expect(readdirSync(root).sort()).toEqual(['guest-a', 'node-c', 'node-d']);
  });

  it('pruning passes over what is gone by then', () => {
    symlinkSync(join(root, 'nowhere'), join(root, 'node-x'));
    mkdirSync(join(root, 'node-y'));
    prune('node-', 5);
    expect(readdirSync(root).sort()).toEqual(['node-x', 'node-y']);
  });

  it.skipIf(process.getuid?.() !== 0)('what somebody else has left in a shared folder stays, and does no harm', () => {
    chmodSync(root, 0o1777);
    mkdirSync(join(root, 'theirs'));
    const script = `import { removeIfOurs } from ${JSON.stringify(CACHE_SOURCE)}; removeIfOurs('theirs'); console.log('went on')`;
    const nobody = { cwd: root, uid: 65534, gid: 65534, encoding: 'utf8' } as const;
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', script], nobody);
    expect([stdout, readdirSync(root)]).toEqual(['went on\n', ['theirs']]);
  });

  it('who waits for another process can be told to stop', async () => {
    writeFileSync(join(root, 'thing.lock'), String(process.ppid));
    const controller = new AbortController();
    const waiting = cached('thing', fill('x'), controller.signal);
    setTimeout(() => controller.abort(), 20);
    await expect(waiting).rejects.toMatchObject({ code: 'ERR_SDXI_ABORTED', message: expect.stringContaining(String(process.ppid)) });
    expect(readdirSync(root)).toEqual(['thing.lock']);
  });

  it('a cache that cannot be written names the cure', async () => {
    vi.stubEnv('SDXI_CACHE', '/proc');
    await expect(cached('thing', fill('x'))).rejects.toMatchObject({
      code: 'ERR_SDXI_SYSTEM',
      hint: expect.stringContaining('SDXI_CACHE'),
    });
  });

  it('a cache that cannot be made names the cure', async () => {
    writeFileSync(join(root, 'file'), '');
    vi.stubEnv('SDXI_CACHE', join(root, 'file', 'below'));
    await expect(cached('thing', fill('x'))).rejects.toMatchObject({
      code: 'ERR_SDXI_SYSTEM',
      hint: expect.stringContaining('SDXI_CACHE'),
    });
    expect(existsSync(join(root, 'thing'))).toBe(false);
  });
});
