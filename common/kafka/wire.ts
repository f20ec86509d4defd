/**
 * The primitive types of Kafka's protocol, written and read: the protocol guide's names, big endian. From its flexible versions on, a
 * request has compact strings, arrays and bytes (their length plus one, as a varint) and tagged fields.
 */

const FIRST_BYTES = 256;

export class Writer {
  private buffer = Buffer.allocUnsafe(FIRST_BYTES);
  private at = 0;

  /** What was written so far; valid until something more is. */
  get bytes(): Buffer {
    return this.buffer.subarray(0, this.at);
  }

  int8(value: number): this {
    const at = this.room(1);
    this.buffer.writeInt8(value, at);
    return this;
  }

  bool(value: boolean): this {
    return this.int8(value ? 1 : 0);
  }

  int16(value: number): this {
    const at = this.room(2);
    this.buffer.writeInt16BE(value, at);
    return this;
  }

  int32(value: number): this {
    const at = this.room(4);
    this.buffer.writeInt32BE(value, at);
    return this;
  }

  /** @param value in decimal digits, or a number that is safe */
  int64(value: string | number): this {
    const at = this.room(8);
    this.buffer.writeBigInt64BE(BigInt(value), at);
    return this;
  }

  /** @param value at most 2^31 - 1 */
  uvarint(value: number): this {
    let rest = value;
    for (; rest > 0x7f; rest >>>= 7) this.byte((rest & 0x7f) | 0x80);
    return this.byte(rest);
  }

  string(value: string | null): this {
    if (value === null) return this.int16(-1);
    return this.int16(Buffer.byteLength(value)).text(value);
  }

  compactString(value: string | null): this {
    if (value === null) return this.uvarint(0);
    return this.uvarint(Buffer.byteLength(value) + 1).text(value);
  }

  raw(value: Buffer): this {
    const at = this.room(value.length);
    value.copy(this.buffer, at);
    return this;
  }

  bytes32(value: Buffer): this {
    return this.int32(value.length).raw(value);
  }

  compactBytes(value: Buffer): this {
    return this.uvarint(value.length + 1).raw(value);
  }

  array<T>(items: readonly T[] | null, write: (item: T) => void): this {
    this.int32(items === null ? -1 : items.length);
    items?.forEach(write);
    return this;
  }

  compactArray<T>(items: readonly T[], write: (item: T) => void): this {
    this.uvarint(items.length + 1);
    items.forEach(write);
    return this;
  }

  /** None of them: we write no tagged field. */
  tags(): this {
    return this.uvarint(0);
  }

  /** Writes over what stands at this place already. */
  patchInt32(at: number, value: number): void {
    this.buffer.writeInt32BE(value, at);
  }

  private byte(value: number): this {
    const at = this.room(1);
    this.buffer[at] = value;
    return this;
  }

  private text(value: string): this {
    const at = this.room(Buffer.byteLength(value));
    this.buffer.write(value, at);
    return this;
  }

  /** @returns where so many bytes can be written */
  private room(bytes: number): number {
    const at = this.at;
    this.at += bytes;
    if (this.at > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(this.at, 2 * this.buffer.length));
      this.buffer.copy(larger, 0, 0, at);
      this.buffer = larger;
    }
    return at;
  }
}

/** Every read throws RangeError where the answer is too short for it. */
export class Reader {
  /** How long the broker asks us to be quiet [ms]; from the answer's own field. */
  throttleMs = 0;
  private readonly buffer: Buffer;
  private at = 0;

  constructor(buffer: Buffer) {
    this.buffer = buffer;
  }

  throttle(): void {
    this.throttleMs = this.int32();
  }

  int8(): number {
    return this.buffer.readInt8(this.move(1));
  }

  bool(): boolean {
    return this.int8() !== 0;
  }

  int16(): number {
    return this.buffer.readInt16BE(this.move(2));
  }

  int32(): number {
    return this.buffer.readInt32BE(this.move(4));
  }

  /** In decimal digits: it may be beyond what a number holds. */
  int64(): string {
    return this.buffer.readBigInt64BE(this.move(8)).toString();
  }

  uvarint(): number {
    let value = 0;
    for (let shift = 0; shift < 35; shift += 7) {
      const byte = this.buffer.readUInt8(this.move(1));
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw new RangeError('a number is longer than Kafka writes any');
  }

  string(): string | null {
    const length = this.int16();
    return length < 0 ? null : this.text(length);
  }

  compactString(): string | null {
    const length = this.uvarint() - 1;
    return length < 0 ? null : this.text(length);
  }

  /** Empty where there are none. */
  bytes32(): Buffer {
    return this.take(Math.max(0, this.int32()));
  }

  array<T>(read: () => T): T[] {
    return this.items(this.int32(), read);
  }

  compactArray<T>(read: () => T): T[] {
    return this.items(this.uvarint() - 1, read);
  }

  /** Tagged fields, of which each is given to `read` if there is one, and passed over. */
  tags(read?: (tag: number, field: Reader) => void): void {
    for (let count = this.uvarint(); count > 0; count -= 1) {
      const tag = this.uvarint();
      const field = new Reader(this.take(this.uvarint()));
      read?.(tag, field);
    }
  }

  take(bytes: number): Buffer {
    const at = this.move(bytes);
    return this.buffer.subarray(at, at + bytes);
  }

  rest(): Buffer {
    return this.take(this.buffer.length - this.at);
  }

  private text(bytes: number): string {
    const at = this.move(bytes);
    return this.buffer.toString('utf8', at, at + bytes);
  }

  private items<T>(count: number, read: () => T): T[] {
    const items: T[] = [];
    for (let i = 0; i < count; i += 1) items.push(read());
    return items;
  }

  private move(bytes: number): number {
    const at = this.at;
    if (bytes < 0 || at + bytes > this.buffer.length)
      throw new RangeError(`the answer ends early: ${bytes} bytes wanted at ${at} of ${this.buffer.length}`);
    this.at += bytes;
    return at;
  }
}
