import { spawn } from 'node:child_process';
import { rmSync } from 'node:fs';
import { SdxiError } from '../errors.js';
import { type GuestOptions, prepareGuest, spawnArguments } from './prepare.js';

/**
 * A guest whose console is this process's terminal, until it is switched off. QEMU sets the terminal to raw and puts it back.
 * @throws SdxiError ERR_SDXI_SYSTEM when QEMU fails, and as `bootGuest`
 */
export async function attachConsole(options: GuestOptions): Promise<void> {
  const prepared = await prepareGuest(options, 'stdio');
  const [command, ...args] = spawnArguments(prepared);
  const remove = () => rmSync(prepared.folder, { recursive: true, force: true });
  process.once('exit', remove);
  try {
    const child = spawn(command, args, { stdio: 'inherit' });
    // SIGTERM, not SIGKILL: QEMU has the terminal to put back.
    const stop = () => child.kill('SIGTERM');
    options.signal?.addEventListener('abort', stop, { once: true });
    if (options.signal?.aborted) stop();
    const code = await new Promise<number | null>((resolve, reject) => {
      child.once('exit', resolve);
      child.once('error', reject);
    });
    options.signal?.removeEventListener('abort', stop);
    if (code === 0 || options.signal?.aborted) return;
    throw new SdxiError('ERR_SDXI_SYSTEM', `QEMU ended with status ${code}`, { hint: 'what it said stands above', fields: { code } });
  } finally {
    remove();
    process.off('exit', remove);
  }
}
