/** What a model is: numbers in, numbers out. */

export interface ModelInput {
  /** Occupation as a fraction of the capacity (x). */
  occupation: number;
  /** Average packet length [bytes] (y). */
  packetLength: number;
}

export interface Inference {
  /** z [W]. */
  power: number;
  /** dz/dx [W]. */
  byOccupation: number;
  /** dz/dy [W/byte]. */
  byPacketLength: number;
}

export interface Model {
  /** The router type. */
  readonly name: string;
  readonly version: string;
  /** One inference for each input, in their order; not finite where the formula has no value. */
  infer(inputs: readonly ModelInput[]): Promise<Inference[]>;
}
