import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type ServeOptions, type Server, serve } from '../../src/serve/index.js';
import { RawClient } from './raw.js';

/** A server in this process, in a folder of its own. */
export interface Rig {
  readonly server: Server;
  readonly path: string;
  readonly log: string[];
  connect(options?: { version?: boolean }): RawClient;
  close(): Promise<void>;
}

export async function startServer(options: Partial<ServeOptions> = {}): Promise<Rig> {
  const folder = mkdtempSync(join(tmpdir(), 'sdxi-serve-'));
  const path = join(folder, 's');
  const log: string[] = [];
  const clients: RawClient[] = [];
  const server = await serve({ socket: path, onLog: (line) => log.push(line), ...options, config: { maxContext: 7, ...options.config } });
  return {
    server,
    path,
    log,
    connect(how) {
      const client = new RawClient(server.sockets[0], how);
      clients.push(client);
      return client;
    },
    async close() {
      for (const client of clients) client.close();
      await server.close();
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
