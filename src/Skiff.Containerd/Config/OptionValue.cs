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

    /// <summary>The boolean, or null when it is something else.</summary>
    public bool? AsBoolean => _value as bool?;

    /// <summary>The number, or null when it is something else.</summary>
    public long? AsInt64 => _value as long?;

    /// <summary>The string, or null when it is something else.</summary>
    public string? AsString => _value as string;
}
