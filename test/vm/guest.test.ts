import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { Guest } from '../../src/vm/guest.js';
import { tools } from '../../src/vm/packages.js';
import { prepareGuest, temporaryFolder } from '../../src/vm/prepare.js';

/** A shell script in place of QEMU. */
const guestOf = (script: string) =>
  new Guest({ command: '/bin/sh', args: ['-c', script], folder: mkdtempSync(join(tmpdir(), 'sdxi-test-')) });

afterEach(() => {
  vi.unstubAllEnvs();
});

describe('a guest', () => {
  it('whose QEMU ends before its last words have been read has said them', async () => {
    const guest = guestOf("(sleep 0.2; printf 'bye\\n\\036script 5\\n') & exit 0");
    expect(await guest.script({ timeoutMs: 5000 })).toEqual({ code: 5, output: 'bye\n' });
    await guest.close();
  });

  it('whose QEMU ends at once says why', async () => {
    const guest = guestOf('echo no such machine >&2; exit 1');
    await expect(guest.script({ timeoutMs: 5000 })).rejects.toMatchObject({
      code: 'ERR_SDXI_SYSTEM',
      hint: expect.stringContaining('no such machine'),
    });
    await guest.close();
  });

  it.each(['/', '/opt/', '/proc/x', '/tmp/../dev/x', '/sys', 'proc/x', ''])('takes no file at "%s"', async (path) => {
    const refused = prepareGuest({ files: { [path]: Buffer.from('x') } }, 'file');
    await expect(refused).rejects.toMatchObject({ code: 'ERR_SDXI_ARGUMENT', hint: expect.stringContaining('/proc') });
  });

  it('a socket below what is no folder is none', async () => {
    await expect(prepareGuest({ sockets: ['/etc/passwd/x'] }, 'file')).rejects.toMatchObject({
      code: 'ERR_SDXI_ARGUMENT',
      hint: expect.stringContaining('sdxi serve'),
    });
  });

  it('the folders of processes that are gone go with the next one', () => {
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    const [left, theirs] = [pid, process.ppid].map((one) => join(tmpdir(), `sdxi-left-${one}-x`));
    for (const folder of [left, theirs]) mkdirSync(folder);
    const made = temporaryFolder('sdxi-left-');
    expect([left, theirs, made].map((folder) => existsSync(folder))).toEqual([false, true, true]);
    for (const folder of [theirs, made]) rmSync(folder, { recursive: true });
  });

  it.each(['/tmp/a:b', '/tmp/a;b', '/tmp/a"b'])('no cache is made in %s', async (folder) => {
    vi.stubEnv('SDXI_CACHE', folder);
    await expect(tools()).rejects.toMatchObject({ code: 'ERR_SDXI_SYSTEM', hint: expect.stringContaining('SDXI_CACHE') });
  });
});
