import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { type ServeOptions, serve } from '../serve/index.js';
import { temporaryFolder } from './prepare.js';

/** A function for one guest, on a socket of its own. */
export interface OwnFunction {
  readonly socket: string;
  /** Stops it and removes the socket. Idempotent. */
  close(): Promise<void>;
}

/**
 * Serves a function for a guest for which no socket was named.
 * @throws as {@link serve}
 */
export async function ownFunction(options: Omit<ServeOptions, 'socket' | 'functions'> = {}): Promise<OwnFunction> {
  const folder = temporaryFolder('sdxi-function-');
  try {
    const server = await serve({ ...options, socket: join(folder, 'socket') });
    return {
      socket: server.sockets[0],
      async close() {
        await server.close();
        rmSync(folder, { recursive: true, force: true });
      },
    };
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    throw error;
  }
}
