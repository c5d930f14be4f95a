import { chmodSync, lstatSync, unlinkSync } from 'node:fs';
import { SdxiError, SystemError } from '../errors.js';
import { closeFd } from '../native/libc.js';
import { connectTo, Errno, listenAt } from '../native/socket.js';

/** A socket that this process listens on. */
export interface ListeningSocket {
  readonly path: string;
  readonly fd: number;
  /** Device and inode, to know it again. */
  readonly inode: string;
}

const inodeOf = (path: string): string | undefined => {
  try {
    const { dev, ino } = lstatSync(path);
    return `${dev}:${ino}`;
  } catch {
    return undefined;
  }
};

/** Takes a socket out of the way that nobody listens on any more. @throws SdxiError ERR_SDXI_BUSY when somebody does, or when it is something else */
function clear(path: string): void {
  let isSocket: boolean;
  try {
    isSocket = lstatSync(path).isSocket();
  } catch {
    return;
  }
  if (!isSocket) {
    throw new SdxiError('ERR_SDXI_BUSY', `${path} exists and is no socket`, {
      hint: 'give another path; it is left as it is',
      fields: { path },
    });
  }
  const fd = connectTo(path);
  if (fd >= 0) closeFd(fd);
  if (fd >= 0 || fd === -Errno.EAGAIN) {
    throw new SdxiError('ERR_SDXI_BUSY', `${path} is served by another process`, {
      hint: 'stop that one first, or give another path',
      fields: { path },
    });
  }
  if (fd !== -Errno.ECONNREFUSED) {
    throw new SystemError('connect', -fd, { hint: 'the socket that is there cannot be looked at; give another path', fields: { path } });
  }
  unlinkSync(path);
}

/**
 * Listens at `path`, for this user alone (mode 0600). A socket that a process left behind is replaced, one that is alive is not.
 * @throws SdxiError ERR_SDXI_BUSY, ERR_SDXI_ARGUMENT; SystemError
 */
export function listenOn(path: string): ListeningSocket {
  clear(path);
  // From the first moment on: nobody else may connect between bind and chmod.
  const mask = process.umask(0o177);
  try {
    const fd = listenAt(path);
    chmodSync(path, 0o600);
    return { path, fd, inode: inodeOf(path) ?? '' };
  } catch (error) {
    if (!(error instanceof SystemError)) throw error;
    const { errno } = error.fields;
    const hint =
      errno === Errno.ENOENT
        ? 'the folder of the socket does not exist: make it first'
        : errno === Errno.EACCES
          ? 'you may not make files in the folder of the socket: give a path in a folder of your own'
          : 'give another path';
    throw new SystemError('bind', Number(errno), { hint, fields: { path }, cause: error });
  } finally {
    process.umask(mask);
  }
}

/** Stops listening, and removes the path if it is still this socket's. */
export function stopListening({ path, fd, inode }: ListeningSocket): void {
  closeFd(fd);
  if (inodeOf(path) === inode) unlinkSync(path);
}
