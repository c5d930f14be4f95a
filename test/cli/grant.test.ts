import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { serve } from '../../src/serve/index.js';
import { here, sdxi } from './run.js';

const URI = 'embedded:?fabric=grant&groupId=7&sfunc=1';
const WORDS = ['grant', '0x100000000', '8k', '--to', '2', '--fill', '0xbb'];
const SUM = createHash('sha256').update(Buffer.alloc(8192, 0xbb)).digest('hex');

describe('sdxi grant', () => {
  it('the address of its own example is free: the driver takes others', async () => {
    const { code, stdout } = await here([...WORDS, '--seconds', '1', URI]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^granted rkey=0 sfunc=1 to=2 address=0x100000000 length=8192 .*\nwithdrawn; /);
    expect(stdout).toContain(SUM);
  });

  it('with --json the key is known before the end', async () => {
    const { code, stdout, stderr } = await here([...WORDS, '--json', '--seconds', '1', URI]);
    expect([code, JSON.parse(stdout)]).toEqual([0, expect.objectContaining({ rkey: 0, sfunc: 1, sha256: SUM })]);
    expect(stderr).toMatch(/^granted rkey=0 /);
  });

  it.each([
    [['0x1000', '4k', '--to', '2'], /no address for a page/],
    [['0x100000001', '4k', '--to', '2'], /no address for a page/],
    [['0x800000000000', '4k', '--to', '2'], /no address for a page/],
    [['0x100000000', '0', '--to', '2'], /length/],
    [['0x100000000', '4k', '--to', '0'], /--to/],
    [['0x100000000', '4k', '--to', '65536'], /--to/],
    [['0x100000000', '4k', '--to', '2', '--vector', '2000'], /no interrupt vector 2000/],
  ])('%j is wrong usage', async (args, text) => {
    const { code, stderr } = await here(['grant', ...args, '--seconds', '1', URI]);
    expect([code, stderr]).toEqual([2, expect.stringMatching(text)]);
  });

  it('a signal withdraws, and that is no error', async () => {
    const { code, stdout } = await sdxi([...WORDS, URI], {
      onStart: (child) => void once(child.stdout as NodeJS.ReadableStream, 'data').then(() => child.kill('SIGTERM')),
    });
    expect([code, stdout]).toEqual([0, expect.stringContaining(`withdrawn; sha256 ${SUM}`)]);
  });

  it('ends when its function does, and does not say that anything was withdrawn', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sdxi-test-'));
    const server = await serve({ socket: join(folder, 'socket') });
    const { code, stdout, stderr } = await sdxi([...WORDS, `vfio-user:${join(folder, 'socket')}`], {
      onStart: (child) => void once(child.stdout as NodeJS.ReadableStream, 'data').then(() => server.close()),
    });
    rmSync(folder, { recursive: true });
    expect([code, stdout, stderr]).toEqual([1, expect.not.stringContaining('withdrawn'), expect.stringContaining('ERR_SDXI_BUS_LOST')]);
  });
});
