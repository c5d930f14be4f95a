import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { bootGuest, type Guest, runInGuest } from '../../src/vm/index.js';
import { startServer } from '../serve/rig.js';

const BIN = fileURLToPath(new URL('../../bin/sdxi.js', import.meta.url));

function sdxi(args: readonly string[]): Promise<{ code: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [BIN, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    let [stdout, stderr] = ['', ''];
    child.stdout.on('data', (text) => {
      stdout += text;
    });
    child.stderr.on('data', (text) => {
      stderr += text;
    });
    child.once('close', (code) => resolve({ code, stdout, stderr }));
  });
}

describe('sdxi vm', () => {
  it('a stock kernel boots without a function; output and status of the script are those of the command', async () => {
    const { code, stdout } = await sdxi(['vm', '--no-function', '--run', 'lspci -n; echo an error >&2; exit 7']);
    expect(stdout).toContain('00:00.0 0600: 8086:29c0\n');
    expect(stdout).toMatch(/an error\n$/);
    expect(code).toBe(7);
  });

  it('much output arrives whole', async () => {
    const { code, stdout } = await sdxi(['vm', '--no-function', '--run', 'seq 1 20000']);
    expect(code).toBe(0);
    expect(stdout).toBe(Array.from({ length: 20_000 }, (_, i) => `${i + 1}\n`).join(''));
  });

  it('a script that fills all memory for files keeps its status', async () => {
    const script = 'dd if=/dev/zero of=/tmp/all bs=1M 2>/dev/null; dd if=/dev/zero of=/all bs=1k 2>/dev/null; echo end; exit 9';
    const { code, stdout } = await sdxi(['vm', '--no-function', '--memory', '192m', '--run', script]);
    expect([code, stdout]).toEqual([9, 'end\n']);
  });

  it('a file is where it was put, in /tmp too', async () => {
    const { code, stdout } = await sdxi(['vm', '--no-function', '--file', `${BIN}:/tmp/a b/file`, '--run', 'sha256sum < "/tmp/a b/file"']);
    expect([code, stdout]).toEqual([0, `${createHash('sha256').update(readFileSync(BIN)).digest('hex')}  -\n`]);
  });

  it('a function that serves another client is an error that says so', async () => {
    const rig = await startServer();
    rig.connect();
    const { code, stderr } = await sdxi(['vm', '--socket', rig.path, '--run', 'true']);
    await rig.close();
    expect(code).toBe(1);
    expect(stderr).toMatch(/before the guest could boot.*one client at a time/s);
  });

  it('files that the memory does not hold are an error, never cut off', async () => {
    const files = { '/large': Buffer.alloc(90 << 20, 1) };
    await expect(runInGuest({ memoryMiB: 256, files }, 'ls -l /large')).rejects.toMatchObject({
      code: 'ERR_SDXI_SYSTEM',
      hint: expect.stringContaining('(--memory)'),
    });
  });

  it.each([0, 1, 126, 255])('status %i of a script that prints any bytes', async (status) => {
    const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => 255 - i));
    const printed = [...bytes].map((byte) => `\\\\${byte.toString(8).padStart(3, '0')}`).join('');
    const seen: Buffer[] = [];
    const script = `x='"$HOME'\nprintf "${printed}"\n[ "$x" = '"'\\$HOME ] && exit ${status}`;
    const outcome = await runInGuest({}, script, { onData: (part) => seen.push(Buffer.from(part)) });
    expect([outcome.code, Buffer.concat(seen).toString('hex')]).toEqual([status, bytes.toString('hex')]);
  });

  it('a script that takes too long ends with the last that was said; no QEMU and no folder is left', async () => {
    const { code, stderr } = await sdxi(['vm', '--no-function', '--run', 'echo before; sleep 1000', '--timeout', '20']);
    expect(code).toBe(1);
    expect(stderr).toContain('no answer within 20000 ms');
    expect(stderr).toContain('before');
  });
});

describe('a guest with Node', () => {
  let guest: Guest;
  beforeAll(async () => {
    guest = await bootGuest({ node: true, files: { '/etc/motd': Buffer.from('hello') } });
  });
  afterAll(async () => {
    await guest?.close();
    expect(readdirSync(tmpdir()).filter((name) => name.startsWith(`sdxi-vm-${process.pid}-`))).toEqual([]);
  });

  it('takes one command after the other', async () => {
    expect(await guest.run('cat /etc/motd; exit 3')).toEqual({ code: 3, output: 'hello' });
    expect(await guest.run('true')).toEqual({ code: 0, output: '' });
  });

  it('a command that takes too long does not disturb the next one', async () => {
    await expect(guest.run('sleep 2; echo late', { timeoutMs: 300 })).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    expect(await guest.run('echo mine')).toEqual({ code: 0, output: 'mine\n' });
  });

  it('runs node -e', async () => {
    expect(await guest.run('node -e "console.log(6 * 7)"')).toEqual({ code: 0, output: '42\n' });
  });

  it('has the command sdxi, koffi with it', async () => {
    const { code, output } = await guest.run('sdxi decode --help');
    expect([code, output.split('\n')[0]]).toEqual([0, 'Usage: sdxi decode [options] [hex...]']);
    expect(await guest.run('sdxi demo --only function', { timeoutMs: 120_000 })).toMatchObject({ code: 0 });
  });

  it('stands still while it is paused', async () => {
    guest.pause();
    await expect(guest.run('echo up', { timeoutMs: 500 })).rejects.toMatchObject({ code: 'ERR_SDXI_TIMEOUT' });
    guest.resume();
    expect(await guest.run('echo again')).toEqual({ code: 0, output: 'again\n' });
  });
});
