namespace Skiff.Containerd.Config;

/// <summary>A value in an options table: true or false, a whole number, or a string.</summary>
public readonly record struct OptionValue
{
    private readonly object? _value; // bool, long or string

    private OptionValue(object value) => _value = value;

    /// <summary>True or false.</summary>
    public static implicit operator OptionValue(bool value) => FromBoolean(value);

    /// <summary>A whole number.</summary>
    public static implicit operator OptionValue(long value) => FromInt64(value);

    /// <summary>A string.</summary>
    public static implicit operator OptionValue(string value) => FromString(value);

    /// <summary>True or false.</summary>
    public static OptionValue FromBoolean(bool value) => new(value);

    /// <summary>A whole number.</summary>
    public static OptionValue FromInt64(long value) => new(value);

    /// <summary>A string.</summary>
    public static OptionValue FromString(string value) => new((object)value);

    /// <summary>A value of a document, if it is of one of these kinds.</summary>
    internal static OptionValue? From(object value) => value is bool or long or string ? new OptionValue(value) : (OptionValue?)null;

    /// <summary>The value for a document.</summary>
    internal object Value => _value ?? throw new InvalidOperationException("an option without a value");

    /// <summary>Whether it is what its absence means too: false, 0 or an empty string.</summary>
    internal bool IsZero => _value is null or false or 0L or "";

    /// <summary>The boolean, or null when it is something else.</summary>
    public bool? AsBoolean => _value as bool?;

    /// <summary>The number, or null when it is something else.</summary>
    public long? AsInt64 => _value as long?;

    /// <summary>The string, or null when it is something else.</summary>
    public string? AsString => _value as string;
}
