import type { CommandModule } from '../command.js';
export const benchCommand: CommandModule = () => {};
