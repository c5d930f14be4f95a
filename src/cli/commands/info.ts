import type { CommandModule } from '../command.js';
export const infoCommand: CommandModule = () => {};
